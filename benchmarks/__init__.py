"""What Widthwise costs in time, and what its choices are worth; results are dated pages under ``results/``."""
