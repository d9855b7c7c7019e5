"""What all families share; it imports nothing of genfast."""
