from django.contrib.auth.views import LogoutView
from django.urls import path

from workflows.dashboard import operations, views
from workflows.dashboard.login import dashboard_login

app_name = "dashboard"
urlpatterns = [
    path("", views.runs, name="runs"),
    path("runs/<uuid:run_id>/", views.run, name="run"),
    path("runs/<uuid:run_id>/cancel/", views.cancel, name="cancel"),
    path("runs/<uuid:run_id>/replay/<slug:mode>/", views.replay, name="replay"),
    path("flows/", operations.flows, name="flows"),
    path("flows/<slug:slug>/<slug:mode>/", operations.stop_flow, name="stop_flow"),
    path("approvals/", operations.approvals_page, name="approvals"),
    path("approvals/<uuid:step_run_id>/", operations.approval, name="approval"),
    path("login/", dashboard_login, name="login"),
    path("logout/", LogoutView.as_view(next_page="/login/"), name="logout"),
]
