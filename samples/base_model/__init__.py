"""A small CLIP of our own, trained from scratch on its slice of the scene world."""
