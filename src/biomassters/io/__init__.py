"""Files, rasters and object storage, whatever they hold."""
