"""What replaying costs."""
