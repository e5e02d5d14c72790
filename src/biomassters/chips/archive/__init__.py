"""The raw layout of the archive: found, listed, read, written."""
