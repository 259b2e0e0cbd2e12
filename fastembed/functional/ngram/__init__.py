"""Hashed n-grams: ids of tokens to rows of tables."""
