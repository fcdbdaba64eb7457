"""The data sets: where they are, how they get there, and one loader module for each of them."""
