"""Image classifiers in NumPy: one module a kind, the networks of layers on one base, `model`."""
