"""Evaluators: functions over embeddings, and the intervals of their differences."""
