"""Ranks: the processes that train one run together, and what they say to each other."""

from fastinfogan.ranks.alone import ALONE, Ranks

__all__ = ["ALONE", "Ranks"]
