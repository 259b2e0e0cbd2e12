"""``plot`` and ``explore``: pictures and pages about the tables of a file."""
