"""What the dashboard has: its addresses, and its pages as a browser walks through them."""
