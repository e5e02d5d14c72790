"""The archive of maps that is handed in: written, and looked at."""
