"""Images of a region, in every form in which they are handed in."""
