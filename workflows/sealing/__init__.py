"""Payloads that are stored encrypted: their form, the fields that open them, and who wants them."""
