"""Side-by-side measurements: one file a question, runnable by anyone with `make bench`."""
