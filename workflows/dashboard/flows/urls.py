from django.urls import path

from workflows.dashboard.flows import actions, editing, views

urlpatterns = [
    path("", views.flows, name="flows"),
    path("~new/", editing.new_flow, name="new_flow"),  # no flow can have this name
    path("<slug:slug>/edit/", editing.edit_flow, name="edit_flow"),
    path("<slug:slug>/", views.flow, name="flow"),
    path("<slug:slug>/triggers/<uuid:trigger_id>/<slug:mode>/", actions.switch_trigger, name="switch_trigger"),
    path("<slug:slug>/<slug:mode>/", actions.act, name="act_on_flow"),
]
