"""From a chip store to trained weights: feeding, augmentation, loss, loop, checkpoints.

Nothing is imported here: reading the options must not load torch.
"""
