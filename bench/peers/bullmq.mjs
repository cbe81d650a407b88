// BullMQ, as its documentation uses it: flows of jobs, one worker process.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { collector, completed, counted, effects, now, quiet, serve, together, worker } from "./wire.mjs";

const url = new URL(process.env.BENCH_STORE);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const QUEUE = "bench";
const CONCURRENCY = 50;

function perform() {
  const effect = effects();
  const count = counted();
  const found = new Worker(QUEUE, async (job) => { effect(job.name); return { ok: true }; }, { connection, concurrency: CONCURRENCY });
  found.on("completed", count);
}

const job = (name, children = []) => ({ name, queueName: QUEUE, data: {}, children });
const five = () => ["s3", "s2", "s1", "s0"].reduceRight((below, name) => job(name, below ? [below] : []), null);
const chain = () => job("s4", [five()]);
const wide = (width) => job("join", Array.from({ length: width }, (_, number) => job(`p${number}`)));

// A store of its own: without AOF, or with one that is on disk before it answers.
function store() {
  const [appendonly, appendfsync] = process.env.BENCH_AOF.split(" ");
  const options = ["--port", url.port, "--bind", "127.0.0.1", "--dir", process.env.BENCH_DIRECTORY, "--save", "",
    "--appendonly", appendonly, "--appendfsync", appendfsync, "--maxmemory-policy", "noeviction"];
  return spawn(process.env.BENCH_SERVER, options, { stdio: "ignore" });
}

async function drive() {
  const server = store();
  const seen = await collector();
  const performer = worker(fileURLToPath(import.meta.url), seen.port);
  const queue = new Queue(QUEUE, { connection });
  const flows = new FlowProducer({ connection });
  const events = new QueueEvents(QUEUE, { connection });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);

  async function alone(tree) {
    seen.clear();
    const called = now();
    const { job: root } = await flows.add(tree());
    const ended = root.waitUntilFinished(events);
    await ended;
    const told = now();
    await quiet(5);
    const kept = await queue.getJob(root.id);
    // finishedOn and timestamp are whole milliseconds: half of one is added for what finishedOn has cut off.
    return { own_ms: kept.finishedOn - root.timestamp, call_ms: kept.finishedOn + 0.5 - called, client_ms: told - called, first_step_ms: seen.first - called };
  }
  async function several(tree, count, pauseMs) {
    const found = [];
    for (let number = 0; number < count; number += 1) {
      await quiet(pauseMs);
      found.push(await alone(tree));
    }
    return found;
  }
  async function timed(runs, steps, store) {
    const before = (await performer.ask("count")).count;
    const called = now();
    await store();
    const stored = now() - called;
    const ended = (await completed(performer.ask, before, runs * steps)) - called;
    return { stored_per_s: (runs / stored) * 1e3, executed_per_s: (runs / ended) * 1e3, steps_per_s: ((runs * steps) / ended) * 1e3 };
  }
  const many = (runs) => Array.from({ length: runs }, () => ({ name: "a", data: {} }));
  await serve({
    warm: async () => { await timed(50, 5, () => flows.addBulk(Array.from({ length: 50 }, chain))); return true; },
    lone: ({ count, pause_ms: pauseMs }) => several(chain, count, pauseMs),
    fan_out: ({ count, width, pause_ms: pauseMs }) => several(() => wide(width), count, pauseMs),
    many: ({ runs }) => timed(runs, 1, () => queue.addBulk(many(runs))),
    single: ({ runs, in_flight: inFlight }) => timed(runs, 1, () => together(runs, inFlight, () => queue.add("a", {}))),
    chain: ({ runs }) => timed(runs, 5, () => flows.addBulk(Array.from({ length: runs }, chain))),
    end: async () => { await performer.end(); server.kill("SIGTERM"); return true; },
  });
}

await (process.argv[2] === "worker" ? perform() : drive());
