"""What the models see and what comes of it, watched with Evidently."""
