"""Retraining that nobody watches: `cliptune retrain`."""
