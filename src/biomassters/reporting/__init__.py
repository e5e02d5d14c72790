"""From predictions to scores, baselines, pictures, a report and a submission; no torch."""
