"""The papers' own numbers, by a command: python -m demos.papers --data DIR."""
