"""A checklist of behaviours, run on our emulators and on Google's: ``nox -s peers``."""
