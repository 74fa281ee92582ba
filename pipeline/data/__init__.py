"""Reading pairs of images and captions: sources, images, splits."""
