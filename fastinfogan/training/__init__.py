"""Training: the loop, and all that it reads and writes on the way."""
