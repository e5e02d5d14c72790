"""What a chip is and where it lies: numpy only, no torch."""
