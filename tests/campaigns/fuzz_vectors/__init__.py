"""The fuzzing of files of vectors: mutated ones of every format, read in one process."""
