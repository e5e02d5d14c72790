"""What computes faster on a CPU than the plain operations do."""
