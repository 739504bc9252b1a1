"""Layer B: the variational autoencoder and its loss. Knows tensors, not files."""
