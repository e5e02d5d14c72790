"""From an area and a year to twelve months of images: scenes found, chosen, composed."""
