"""Work that takes many attempts: handed over, killed and frozen, and compared with an undisturbed run."""
