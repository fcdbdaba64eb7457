"""Captions: vocabulary, sampling, training and scores, and `python -m common.captions` for photographs of one's own."""
