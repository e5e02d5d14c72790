"""The original's own weights, read without running anything in them."""
