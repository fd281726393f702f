"""Measures: records in, rates out."""
