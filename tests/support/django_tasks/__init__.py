"""An application with tasks, and the settings that make them Headrace's."""
