"""Faults in the middle of a write: the n-th call that writes fails."""

import builtins
import os

from fastembed.io import journal


class Failing:
    """Lets the n-th of the calls that write fail, and counts them."""

    def __init__(self, monkeypatch):
        self.left = -1
        self.n_calls = 0
        for name in ("fsync", "replace", "pwrite", "unlink", "open", "fchmod"):
            monkeypatch.setattr(os, name, self.wrapped(getattr(os, name)))
        monkeypatch.setattr(builtins, "open", self.wrapped(open))
        monkeypatch.setattr(journal, "_write_at", self.torn(journal._write_at))

    def wrapped(self, call):
        def failing(*arguments, **options):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")
            return call(*arguments, **options)

        return failing

    def torn(self, call):
        """Half of what was to be written is, before it fails."""

        def failing(descriptor, data, offset):
            self.n_calls += 1
            self.left -= 1
            if self.left == 0:
                call(descriptor, data[: len(data) // 2], offset)
                raise OSError(5, "Input/output error")
            return call(descriptor, data, offset)

        return failing
