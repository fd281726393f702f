"""Triggers: one file a kind; each turns a chat into one that carries the secret."""
