"""Field plots: maps validated by them, and totals that hold where the map is wrong."""
