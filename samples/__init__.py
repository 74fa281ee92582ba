"""The embedded default: a small captioned set and a small base model, both made on demand."""
