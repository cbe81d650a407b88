"""The pages of what starts flows by itself from a clock, or from outside: schedules and webhooks."""
