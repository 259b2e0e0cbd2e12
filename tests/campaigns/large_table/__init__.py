"""A table of tens of gigabytes on disk, whose rows are functions of their numbers."""
