"""What an archive holds, lacks, and has damaged."""
