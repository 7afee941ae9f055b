"""A local Datastore that needs nothing but Python: Google's own stub behind gRPC, for development."""
