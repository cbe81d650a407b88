"""Who belongs to an organization, and how much it may take of the installation."""
