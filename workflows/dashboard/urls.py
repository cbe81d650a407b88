from django.urls import include, path

from workflows.dashboard import design, operations, organization, run_views, views
from workflows.dashboard.login import DashboardLogout

app_name = "headrace"
urlpatterns = [
    path("", views.runs, name="runs"),
    path("runs/<uuid:run_id>/", run_views.run, name="run"),
    path("runs/<uuid:run_id>/state/", run_views.run_state, name="run_state"),
    path("runs/<uuid:run_id>/parts/", run_views.run_parts, name="run_parts"),
    path("runs/<uuid:run_id>/steps/<str:key>/", run_views.step_body, name="step_body"),
    path("runs/<uuid:run_id>/steps/<str:key>/<slug:what>.json", run_views.step_download, name="step_download"),
    path("runs/<uuid:run_id>/<slug:what>.json", run_views.run_download, name="run_download"),
    path("runs/<uuid:run_id>/input/", run_views.run_body, {"what": "input"}, name="run_input"),
    path("runs/<uuid:run_id>/output/", run_views.run_body, {"what": "output"}, name="run_output"),
    path("runs/<uuid:run_id>/cancel/", views.cancel, name="cancel"),
    path("runs/<uuid:run_id>/replay/<slug:mode>/", views.replay, name="replay"),
    path("flows/", operations.flows, name="flows"),
    path("flows/<slug:slug>/<slug:mode>/", operations.stop_flow, name="stop_flow"),
    path("approvals/", operations.approvals_page, name="approvals"),
    path("approvals/<uuid:step_run_id>/", operations.approval, name="approval"),
    path("limits/", include("workflows.dashboard.limits.urls")),
    path("workers/", include("workflows.dashboard.workers.urls")),
    path("organization/", organization.organization_page, name="organization"),
    path("organization/members/", organization.put_member, name="put_member"),
    path("organization/members/remove/", organization.remove_member, name="remove_member"),
    path("switch/", organization.switch, name="switch"),
    path("design/", design.design, name="design"),
    path("logout/", DashboardLogout.as_view(), name="logout"),
]
