"""Puts the stages together on one machine or a cluster."""
