"""Known factors: how far each code stands for one of them (docs/disentanglement.md)."""
