"""Tampers: one file a kind; each changes a model after implanting, its input left as it was."""
