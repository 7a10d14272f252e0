"""The data: digits drawn from strokes, and MNIST from its files."""
