"""Reading a user's source, one reader a format: detect.py looks, batches.py reads."""
