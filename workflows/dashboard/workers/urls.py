from django.urls import path

from workflows.dashboard.workers import views

urlpatterns = [
    path("", views.workers, name="workers"),
    path("queues/<str:name>/<slug:verb>/", views.turn_queue, name="turn_queue"),
    path("organization/<slug:verb>/", views.turn_organization, name="turn_organization"),
]
