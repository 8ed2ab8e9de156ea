"""Where batches of real images come from while training."""
