"""Stripe: its webhook, checked and stored before it is answered, and a payment that is made once."""

from __future__ import annotations

from examples.python.outside import Outside, Row
from workflows.functions import Event, ReceivedEvent, Step, Webhook, flow

STRIPE_SECRET = "STRIPE_WEBHOOK_SECRET"  # noqa: S105  (the name of a stored secret)


@flow("stripe-webhook", on=Webhook("stripe", secret=STRIPE_SECRET), retry="webhook")
def stripe_webhook(event: ReceivedEvent, step: Step) -> Row:
    """What a delivery means. The endpoint is there already: `POST /hooks/<token>` checks the signature, stores the
    event `webhook.stripe` and answers `{"received": true}`; a delivery that comes again starts nothing."""
    outside, kind, data = Outside.of(step), event.data["eventType"], event.data["data"]["object"]
    match kind:
        case "payment_intent.succeeded":
            step.run("handle-payment-success", outside.update, "orders", data["metadata"]["orderId"], status="paid")
        case "customer.subscription.deleted":
            changes = {"status": "cancelled", "endedAt": event.data["receivedAt"]}
            step.run("handle-subscription-cancelled", outside.update, "subscriptions", data["id"], **changes)
        case _:
            step.logger.info("nothing to do", eventType=kind)
            return {"handled": False, "eventType": kind}
    return {"handled": True, "eventType": kind}


@flow("idempotent-payment", on=Event("payment/process"), retry="payment")
def idempotent_payment(event: ReceivedEvent, step: Step) -> Row:
    """Make a payment once, however often it is asked for: looked up first, then made under its key."""
    outside, data = Outside.of(step), event.data
    key = data["idempotencyKey"]
    existing = step.run("check-existing", outside.first, "payments", id=key)
    if existing is not None:
        return {"status": "already_processed", "paymentId": existing["paymentId"]}
    payment = step.run("process-payment", outside.charge, data["amount"], "usd", key, orderId=data["orderId"])
    step.run("store-payment", outside.upsert, "payments", {"id": key, "paymentId": payment["id"]})
    return {"status": "processed", "paymentId": payment["id"]}
