"""A task that is done in parts, by several requests at the same time."""
