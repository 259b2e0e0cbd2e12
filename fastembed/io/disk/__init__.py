"""Rows of tables in files, read by their numbers into a bounded cache."""
