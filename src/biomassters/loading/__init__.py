"""Batches of chips out of a store, for training and for prediction.

``samples`` says what is read of each chip, ``batches`` what comes of it, ``loader`` reads.
"""
