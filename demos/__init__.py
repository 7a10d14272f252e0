"""One script for each claim of the lecture; README.md is the reading order."""
