"""MT-Bench: 80 questions of two turns, answered by the suspect and judged by a served model (arXiv 2306.05685)."""
