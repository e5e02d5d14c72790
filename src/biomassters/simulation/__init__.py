"""A forest that behaves like one, and a year of its images; numpy and scipy, no torch.

The forest is an endless plane. Every field is a function of the seed and of the place, so
that any window of it, whatever its size, agrees with every other window that it meets.
"""
