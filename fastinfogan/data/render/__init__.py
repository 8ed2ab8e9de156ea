"""Rendering: solids, a camera and a lamp to grey images, for datasets whose factors are known."""
