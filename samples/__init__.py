"""The embedded default: a small captioned picture set and a small base model, both made on demand."""
