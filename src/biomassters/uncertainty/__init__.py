"""How wrong a prediction may be: intervals per pixel and per chip, errors of totals; numpy only."""
