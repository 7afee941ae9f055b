"""The library under fire: real processes, killed and cut off from each other, `python -m tests.chaos`."""
