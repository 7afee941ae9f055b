"""The contexts of the pages' templates, and the status document."""
