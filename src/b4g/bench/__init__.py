"""The benchmark: plan, run what is missing, store."""
