from django.urls import path

from workflows.dashboard.overview import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("now/", views.now, name="overview_now"),
    path("runs/", views.runs_behind, name="runs_behind"),
]
