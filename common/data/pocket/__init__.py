"""Pocket editions: small data sets that are drawn here, in seconds, from a seed."""
