"""The chaos test: real processes are killed and cut off from each other. Run `python -m tests.chaos`."""
