"""The fuzzing of files: mutated checkpoints, tables, records and journals, and every reader."""
