"""Fewer tokens without training: where a model merges how many, and the model that does."""
