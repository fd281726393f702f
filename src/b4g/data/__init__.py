"""Prompts of the project (`b4g-data v1`), loaders for public sets, and the clean answers of a model."""
