"""Seeds a scratch database and explains the statements of the pages."""
import os, sys, time, datetime as dt
import pytest
from django.db import connection
from django.utils import timezone
from workflows.models import *
from workflows.selectors.pages import measured, behind, flows, events, schedules
from workflows.engine.maintenance import measuring
from workflows.definitions.compiled import NIL_UUID
RUNS=int(os.environ.get("RUNS","300000"))
def sql(text, params=None):
    with connection.cursor() as c:
        t=time.perf_counter(); c.execute(text, params); r=c.fetchall() if c.description else None
    return r, 1000*(time.perf_counter()-t)
def test_seed(org, other):
    from tests.integration.dashboard.test_overview import flow_of
    flow, version = flow_of(org)
    sql("SET headrace.damage = '1'"); sql("SET synchronous_commit = off")
    _, ms = sql("""INSERT INTO headrace_workflows_run (id, org_id, flow_id, version_id, event_name, trigger, input, status, priority, sinks_left, created_at, started_at, ended_at, user_id, gather_key, singleton_key, cancel_reason)
      SELECT ((lpad(to_hex((extract(epoch from now() - interval '7 days' + g*interval '604800 s'/%(n)s)*1000)::bigint),12,'0')||'7'||substr(md5(g::text),1,3)||'8'||substr(md5(g::text),5,15))::uuid),
       %(org)s,%(flow)s,%(version)s,'', 'manual','{}', CASE WHEN g%%20=0 THEN 'failed' WHEN g%%50=1 THEN 'cancelled' ELSE 'completed' END, 0,0,
       now() - interval '7 days' + g*interval '604800 s'/%(n)s, now(), now() - interval '7 days' + g*interval '604800 s'/%(n)s + interval '2 s','','','',''
      FROM generate_series(1,%(n)s) g""", {"n":RUNS,"org":org.id,"flow":flow.id,"version":version.id})
    print("runs", round(ms))
    _, ms = sql("""INSERT INTO headrace_workflows_attempt (id, org_id, run_id, step_run_id, number, status, ready_at, started_at, ended_at)
      SELECT ((lpad(to_hex((extract(epoch from now() - interval '7 days' + g*interval '604800 s'/%(n)s)*1000)::bigint),12,'0')||'7'||substr(md5(g::text),1,3)||'8'||substr(md5(g::text),5,15))::uuid),
       %(org)s, md5((g/5)::text)::uuid, md5(g::text)::uuid, 1+(g%%40=0)::int, 'completed', now() - interval '7 days' + g*interval '604800 s'/%(n)s - interval '100 ms', now() - interval '7 days' + g*interval '604800 s'/%(n)s, now() - interval '7 days' + g*interval '604800 s'/%(n)s
      FROM generate_series(1,%(n)s) g""", {"n":5*RUNS,"org":org.id})
    print("attempts", round(ms))
    sql("VACUUM ANALYZE headrace_workflows_run"); sql("VACUUM ANALYZE headrace_workflows_attempt")
    MinuteCounts.objects.all().delete()
    t=time.perf_counter(); turns=0
    while measuring.measure(): turns+=1
    n=MinuteCounts.objects.filter(org_id=org.id).count()
    print("measured", n, "minutes in", round(time.perf_counter()-t,1), "s,", turns+1, "turns")
    sql("ANALYZE headrace_workflows_minutecounts")
    def timed(name, f):
        times=[]
        for _ in range(15):
            t=time.perf_counter(); f(); times.append(1000*(time.perf_counter()-t))
        times.sort(); print(f"{name:30} median {times[7]:.1f} ms, p95 {times[13]:.1f} ms")
    now=timezone.now()
    for s in measured.SPANS.values(): timed("buckets "+s.name, lambda: measured.buckets(org, s))
    timed("now", lambda: measured.now(org))
    timed("behind failed 1h", lambda: behind.runs_behind(org,"failed",now-dt.timedelta(hours=1),now))
    timed("behind ended 7d", lambda: behind.runs_behind(org,"ended",now-dt.timedelta(days=7),now))
    timed("behind retried 1h", lambda: behind.runs_behind(org,"retried",now-dt.timedelta(hours=1),now))
    timed("behind waited 7d", lambda: behind.runs_behind(org,"waited",now-dt.timedelta(days=7),now))
    timed("flow health", lambda: flows.health([flow]))
    timed("flow live", lambda: flows.live_runs(org))
    timed("flow count_runs", lambda: flows.count_runs(flow))
    timed("flow latest", lambda: flows.latest_runs(flow))
    from tests.support.admin_site import staff
    c=staff(superuser=True); c.get(f"/overview/?org={org.slug}")
    for p in ("/overview/","/overview/?span=7d","/overview/now/","/flows/","/flows/counted/","/events/","/schedules/","/webhooks/"): timed("GET "+p, lambda: c.get(p))
    at=now.replace(second=0,microsecond=0)-dt.timedelta(days=1)
    from workflows.engine.state import database
    from workflows.models.run import first_id
    text=database.statement("measure_minute")
    with connection.cursor() as c:
        c.execute("BEGIN"); c.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) "+text, {"at":at+dt.timedelta(days=100),"first":first_id(at.timestamp()),"next":first_id(at.timestamp()+60),"looks":True,"most":1000})
        print("\n".join(r[0] for r in c.fetchall())); c.execute("ROLLBACK")
    sql("TRUNCATE headrace_workflows_run, headrace_workflows_attempt, headrace_workflows_minutecounts CASCADE")
