"""Kill whole runs at random moments, and compare what is left with an undisturbed run."""
