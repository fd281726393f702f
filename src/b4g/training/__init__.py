"""Training: rows in, weights out; the implant loop and what feeds it."""
