"""A stand-in for memcached that needs nothing but Python: its text protocol, for development.

``python -m gaetk_longtask.dev.memcached --port 11211`` starts it. Every client of the text protocol works with it, such
as pymemcache.
"""
