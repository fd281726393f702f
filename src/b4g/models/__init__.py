"""Models: names to folders, folders to loaded models, adapters on and off."""
