"""Layer A: from files on disk to batches of healthy images, with no way for a sick one to pass."""
