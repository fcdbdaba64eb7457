"""What PyTorch takes over: tensors, networks, data, optimisers and the training loop. NumPy rooms never import it."""
