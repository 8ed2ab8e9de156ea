"""The networks and the latent specification, and InfoGAN in plain PyTorch on one page."""
