"""Queries, from the request to the batch of results."""
