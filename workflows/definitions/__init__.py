"""The declarative format: what a flow is, in YAML or JSON (docs/reference/definition.md)."""
