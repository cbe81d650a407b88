from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from workflows.dashboard import views

app_name = "dashboard"
urlpatterns = [
    path("", views.runs, name="runs"),
    path("runs/<uuid:run_id>/", views.run, name="run"),
    path("runs/<uuid:run_id>/cancel/", views.cancel, name="cancel"),
    path("runs/<uuid:run_id>/replay/<slug:mode>/", views.replay, name="replay"),
    path("approvals/", views.approvals_page, name="approvals"),
    path("approvals/<uuid:step_run_id>/", views.approval, name="approval"),
    path("login/", LoginView.as_view(template_name="dashboard/login.html"), name="login"),
    path("logout/", LogoutView.as_view(next_page="/login/"), name="logout"),
]
