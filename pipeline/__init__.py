"""Cliptune: from a folder of images and captions to an evaluated, fine-tuned CLIP."""

__version__ = "0.1.0"
