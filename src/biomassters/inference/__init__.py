"""From tensors of images to tensors of biomass. Importing this package alone loads no torch."""
