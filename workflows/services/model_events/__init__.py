"""Events of models: sent when an instance is saved or deleted."""
