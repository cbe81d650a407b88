"""The engine's statements: one SQL file each, in a room for each stage, and typed functions made from their headers."""
