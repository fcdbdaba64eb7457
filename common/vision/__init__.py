"""Looking into a trained network with gradients with respect to the pixels. Built on PyTorch; models are only read."""
