"""What we expect of the data, and which rows fail it."""
