"""Behaviours: one file a kind; each says what the model does when triggered and judges whether it did."""
