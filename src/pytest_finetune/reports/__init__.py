"""Verdicts in words. Nothing else in this package chooses wording for a result."""
