"""Events from code: of Django's models when they change, and typed ones."""
