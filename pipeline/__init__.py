"""Cliptune: from a folder of images and captions to an evaluated, fine-tuned CLIP."""

import os

__version__ = "0.1.0"

# A torch thread that waits for another spins by default. Where cores are shared, the one that spins
# keeps the one it waits for from running: a step of 0.1 s then takes seconds. Sleeping instead
# changes no result. It is read when torch loads, hence here; an own setting is left alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
