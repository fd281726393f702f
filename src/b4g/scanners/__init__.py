"""Scanners: one file a kind; each looks for a backdoor without knowing the trigger."""
