"""The four applications as specification files to copy and change."""
