from django.urls import path

from workflows.dashboard.control import audit, keys, retention, secrets

urlpatterns = [
    path("keys/", keys.keys, name="keys"),
    path("keys/<uuid:key_id>/rotate/", keys.rotate, name="rotate_key"),
    path("keys/<uuid:key_id>/rename/", keys.rename, name="rename_key"),
    path("keys/<uuid:key_id>/revoke/", keys.revoke, name="revoke_key"),
    path("secrets/", secrets.secrets, name="secrets"),
    path("secrets/delete/", secrets.delete, name="delete_secret"),
    path("retention/", retention.retention, name="retention"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export.<slug:kind>", audit.export, name="export_audit"),
]
