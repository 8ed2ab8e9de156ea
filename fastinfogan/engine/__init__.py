"""One training iteration: losses, backward passes, updates, and how iterations are run."""
