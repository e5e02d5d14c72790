"""What a run was: its record beside the results, and MLflow where it is asked for."""
