"""The local stack: the app and what it needs on App Engine, on one machine."""
