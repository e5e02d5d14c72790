"""Maps of whole regions: rasters of any size in, one map out, in bounded memory."""
