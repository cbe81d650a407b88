"""What a login keeps for itself: views of lists, and the examples that it tried."""
