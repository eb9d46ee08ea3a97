"""Statistics for comparing versions."""
