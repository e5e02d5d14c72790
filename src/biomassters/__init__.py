"""Forest aboveground biomass from a year of Sentinel-1 and Sentinel-2 images."""

__version__ = "0.2.0"
