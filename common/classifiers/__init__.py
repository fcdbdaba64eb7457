"""Image classifiers in NumPy, each in the room of its notebook."""
