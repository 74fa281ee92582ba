"""Caption rules, duplicates and the order in which they clean."""
