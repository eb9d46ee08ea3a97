"""Evaluation on files: anybody's interactions, without a lake, an installation or Ray."""
