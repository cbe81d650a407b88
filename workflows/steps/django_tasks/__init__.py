"""What the workers and the backend of `django.tasks` share: which package has it, where a task is, and its results."""
