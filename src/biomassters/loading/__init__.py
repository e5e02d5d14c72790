"""Batches of chips out of a store, for training and for prediction."""
