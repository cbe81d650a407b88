"""The test page: run any flow, send events, and see what comes of it."""
