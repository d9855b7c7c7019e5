"""What all families share; it imports nothing of genfast but the version."""
