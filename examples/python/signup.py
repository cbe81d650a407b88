"""A user signs up: what happens at once, what happens a day later, and the row of the user, written once."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from pydantic import BaseModel

from examples.python.outside import Outside, Row
from workflows.functions import CancelOn, Event, ReceivedEvent, Step, flow


class Signup(BaseModel):
    """The data of `user/signup`."""

    userId: str
    email: str


@flow("on-user-signup", on=Event("user/signup", model=Signup))
def on_user_signup(event: ReceivedEvent, step: Step) -> Row:
    """Three steps, each done once: the mail, the first data, analytics."""
    outside, user_id, email = Outside.of(step), event.data.userId, event.data.email
    step.run("send-welcome-email", outside.send_mail, email, "welcome", f"welcome:{user_id}", userId=user_id)
    step.run("initialize-user-data", outside.upsert, "profiles", {"id": user_id, "email": email, "isComplete": False})
    step.run("track-signup", outside.track, "user_signup", f"signup:{user_id}", userId=user_id, email=email)
    return {"userId": user_id}


@flow(
    "send-profile-reminder",
    on=Event("user/signup", model=Signup),
    cancel_on=[CancelOn("user/deleted", match="data.userId")],
)
def send_profile_reminder(event: ReceivedEvent, step: Step) -> Row:
    """A day later: a reminder for those whose profile is not complete. Nothing waits meanwhile but a row."""
    outside, user_id = Outside.of(step), event.data.userId
    step.sleep("wait-24h", "24h")
    profile = step.run("check-profile", outside.first, "profiles", id=user_id)
    is_complete = profile is not None and bool(profile.get("isComplete"))
    if not is_complete:
        key = f"profile-reminder:{user_id}"
        step.run("send-reminder", outside.send_mail, event.data.email, "complete-profile-reminder", key)
    return {"reminded": not is_complete}


@flow("create-or-update-user", on=Event("user/imported"))
def create_or_update_user(event: ReceivedEvent, step: Step) -> Row:
    """The user's row and the record of the step are one transaction: both are there, or neither."""
    email, name = event.data["email"], event.data["name"]
    user: Row = step.atomic("create-or-update-user", upsert_user, email, name)
    return user


def upsert_user(email: str, name: str) -> Row:
    """Returns {id, created}. Performed again, it changes nothing."""
    user, created = get_user_model().objects.update_or_create(
        username=email, defaults={"email": email, "first_name": name}
    )
    return {"id": user.pk, "created": created}
