"""The pages of events: the stream, one event with what it made, and the schemas."""
