"""CheckpointError: a file is not what it should be."""


class CheckpointError(ValueError):
    """A file is not a checkpoint, is damaged, or has unexpected names, shapes or dtypes."""
