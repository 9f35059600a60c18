"""Comparisons: what was measured beside what the models say."""
