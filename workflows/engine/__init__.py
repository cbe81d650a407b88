"""The durable engine: one pipeline of set-based verbs over Postgres (docs/explanation/engine.md)."""
