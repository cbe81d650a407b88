"""What actions of the admin share: asking once more, and what is written down."""
