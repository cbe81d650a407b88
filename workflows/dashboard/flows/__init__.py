"""The pages of flows: the list, and one flow with its graph, definition, versions, triggers and limits."""
