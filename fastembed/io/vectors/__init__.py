"""Files of vectors of other programs: read block by block into a table, and written from one."""
