from django.urls import path

from dlq.dashboard import bulk, causes, letters

app_name = "headrace-letters"
urlpatterns = [
    path("", causes.causes, name="causes"),
    path("all/", letters.letters, name="letters"),
    path("causes/<uuid:group_id>/", causes.cause, name="cause"),
    path("causes/<uuid:group_id>/assign/", causes.assign, name="assign"),
    path("causes/<uuid:group_id>/snooze/", causes.snooze, name="snooze"),
    path("causes/<uuid:group_id>/automatic/", causes.automatic, name="automatic"),
    path("causes/<uuid:group_id>/comments/", causes.comment, name="comment"),
    path("chosen/", letters.chosen, name="chosen"),
    path("bulk/", bulk.preview, name="bulk"),
    path("bulk/trial/", bulk.trial, name="trial"),
    path("bulk/start/", bulk.start, name="start"),
    path("bulk/all/", bulk.operations, name="operations"),
    path("bulk/<uuid:operation_id>/", bulk.operation, name="operation"),
    path("bulk/<uuid:operation_id>/<slug:verb>/", bulk.turn, name="turn"),
    path("<uuid:letter_id>/", letters.letter, name="letter"),
    path("<uuid:letter_id>/input.json", letters.download, name="download"),
    path("<uuid:letter_id>/repair/", letters.repair, name="repair"),
    path("<uuid:letter_id>/ignore/", letters.ignore, name="ignore"),
    path("<uuid:letter_id>/reopen/", letters.reopen, name="reopen"),
]
