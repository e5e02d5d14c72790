"""From predictions to scores, baselines, pictures, a report and a model card; no torch."""
