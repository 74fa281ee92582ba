"""CLIP models: loading, embedding, losses. The only importers of open_clip live here."""
