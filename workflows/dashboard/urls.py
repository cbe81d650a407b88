from django.urls import include, path

from workflows.dashboard import design, operations, organization
from workflows.dashboard.login import DashboardLogout
from workflows.dashboard.run import actions, compare, repeat, steps
from workflows.dashboard.run import views as run_views
from workflows.dashboard.runs import bulk, export, live, saved
from workflows.dashboard.runs import views as list_views
from workflows.dashboard.trying import views as trying

app_name = "headrace"
urlpatterns = [
    path("", list_views.runs, name="runs"),
    path("runs/rows/", live.live_rows, name="live_rows"),
    path("runs/counts/", list_views.counts, name="run_counts"),
    path("runs/export.<slug:kind>", export.export, name="export_runs"),
    path("runs/chosen/<slug:action>/", bulk.chosen, name="chosen_runs"),
    path("runs/matching/<slug:action>/", bulk.matching, name="matching_runs"),
    path("runs/views/", saved.save, name="save_view"),
    path("runs/views/<uuid:view_id>/delete/", saved.delete, name="delete_view"),
    path("operations/", bulk.operations, name="operations"),
    path("operations/<uuid:operation_id>/", bulk.operation, name="operation"),
    path("operations/<uuid:operation_id>/<slug:what>/", bulk.turn, name="turn_operation"),
    path("runs/<uuid:run_id>/", run_views.run, name="run"),
    path("runs/<uuid:run_id>/state/", run_views.run_state, name="run_state"),
    path("runs/<uuid:run_id>/parts/", run_views.run_parts, name="run_parts"),
    path("runs/<uuid:run_id>/history/", run_views.run_history, name="run_history"),
    path("runs/<uuid:run_id>/compare/", compare.compare, name="compare"),
    path("runs/<uuid:run_id>/steps/<str:key>/", steps.step_body, name="step_body"),
    path("runs/<uuid:run_id>/steps/<str:key>/limits/", steps.step_limits, name="step_limits"),
    path("runs/<uuid:run_id>/steps/<str:key>/items/", steps.step_items, name="step_items"),
    path("runs/<uuid:run_id>/steps/<str:key>/<slug:what>.json", steps.step_download, name="step_download"),
    path("runs/<uuid:run_id>/<slug:what>.json", run_views.run_download, name="run_download"),
    path("runs/<uuid:run_id>/input/", run_views.run_body, {"what": "input"}, name="run_input"),
    path("runs/<uuid:run_id>/output/", run_views.run_body, {"what": "output"}, name="run_output"),
    path("runs/<uuid:run_id>/cancel/", actions.cancel, name="cancel"),
    path("runs/<uuid:run_id>/replay/<slug:mode>/", actions.replay, name="replay"),
    path("runs/<uuid:run_id>/repeat/", repeat.repeat, name="repeat"),
    path("overview/", include("workflows.dashboard.overview.urls")),
    path("flows/", include("workflows.dashboard.flows.urls")),
    path("events/", include("workflows.dashboard.events.urls")),
    path("", include("workflows.dashboard.schedules.urls")),
    path("approvals/", operations.approvals_page, name="approvals"),
    path("approvals/<uuid:step_run_id>/", operations.approval, name="approval"),
    path("limits/", include("workflows.dashboard.limits.urls")),
    path("workers/", include("workflows.dashboard.workers.urls")),
    path("", include("workflows.dashboard.control.urls")),
    path("organization/", organization.organization_page, name="organization"),
    path("organization/members/", organization.put_member, name="put_member"),
    path("organization/members/remove/", organization.remove_member, name="remove_member"),
    path("switch/", organization.switch, name="switch"),
    path("test/", trying.flow, name="test"),
    path("test/events/", trying.events, name="test_events"),
    path("test/events/sent/", trying.sent, name="sent_events"),
    path("design/", design.design, name="design"),
    path("logout/", DashboardLogout.as_view(), name="logout"),
]
