"""What observe-only mode costs."""
