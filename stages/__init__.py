"""The DVC stages: wiring only."""
