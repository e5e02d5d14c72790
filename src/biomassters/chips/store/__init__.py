"""The packed form of an archive: a Zarr v3 chip store."""
