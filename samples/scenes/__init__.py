"""A world of captioned pictures: what can be in one, how it looks, how it is told, what is wrong."""
