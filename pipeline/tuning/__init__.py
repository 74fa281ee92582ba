"""Sweeps: `cliptune tune`."""
