"""Ranks: the processes that train one run together, and what they say to each other."""
