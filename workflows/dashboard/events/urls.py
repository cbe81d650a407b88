from django.urls import path

from workflows.dashboard.events import schemas, views

urlpatterns = [
    path("", views.events, name="events"),
    path("new/", views.new_events, name="new_events"),
    path("schemas/", schemas.schemas, name="event_schemas"),
    path("schemas/delete/", schemas.delete, name="delete_schema"),
    path("<uuid:event_id>/", views.event, name="event"),
    path("<uuid:event_id>/event.json", views.download, name="event_json"),
    path("<uuid:event_id>/resend/", views.resend, name="resend_event"),
]
