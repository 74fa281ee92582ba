"""Scheduled retraining."""
