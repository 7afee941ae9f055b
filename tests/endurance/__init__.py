"""The endurance test: tasks that take many attempts are killed and frozen, and compared with an undisturbed run."""
