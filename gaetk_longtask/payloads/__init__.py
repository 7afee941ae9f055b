"""Converts parameters, results and states to stored bytes, and back."""
