"""Near-duplicates: of pictures and of captions, as pairs and as groups."""
