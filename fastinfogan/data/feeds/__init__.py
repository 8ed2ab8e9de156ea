"""Feeds: where a run's batches of real images come from."""
