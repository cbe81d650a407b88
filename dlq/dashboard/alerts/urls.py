from django.urls import path

from dlq.dashboard.alerts import views

app_name = "headrace-alerts"
urlpatterns = [
    path("", views.alerts, name="alerts"),
    path("rules/<slug:name>/<slug:verb>/", views.rule, name="rule"),
    path("channels/environment/test/", views.try_configured, name="try_configured"),
    path("channels/<int:channel_id>/<slug:verb>/", views.channel, name="channel"),
]
