"""A local Datastore that needs nothing but Python: entities and indexes in SQLite, behind gRPC and REST."""
