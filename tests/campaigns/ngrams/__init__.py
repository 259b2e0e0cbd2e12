"""Rows of n-grams against NumPy code written from the published formulas."""
