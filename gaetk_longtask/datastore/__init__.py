"""How our entities are read and written in Datastore."""
