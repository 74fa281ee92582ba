"""A world of captioned pictures: what is in one, how it looks, how it is told, what is wrong."""
