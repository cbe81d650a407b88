from django.urls import path

from workflows.dashboard.limits import change, views

urlpatterns = [
    path("", views.limits, name="limits"),
    path("history/", views.history, name="limit_history"),
    path("one/", views.limit, name="limit"),
    path("change/", change.change, name="change_limit"),
    path("change/remove/", change.remove, name="remove_limit"),
]
