from django.urls import path

from workflows.dashboard.schedules import views

urlpatterns = [
    path("schedules/", views.schedules, name="schedules"),
    path("webhooks/", views.webhooks, name="webhooks"),
]
