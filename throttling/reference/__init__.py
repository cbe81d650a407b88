"""The limits in Python: what the Lua scripts do, for tests and forecasts."""
