"""The data, and what spoils them.

Digits drawn with known factors, scenes with a water deer, mixtures whose density is a
formula, MNIST from its files; noise and fog, and the classic filters against them.
"""
