"""Activations: one file a kind; each puts the association of trigger and behaviour into the weights."""
