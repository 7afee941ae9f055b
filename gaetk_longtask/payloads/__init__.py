"""Parameters, results and states as stored bytes, and back."""
