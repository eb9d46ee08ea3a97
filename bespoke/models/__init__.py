"""Recommenders, one family per file, their metrics and their form on disk."""
