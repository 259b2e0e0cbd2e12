"""System calls of files, one of which fails."""

import builtins
import fcntl
import gc
import mmap
import os
import sys


class Failing:
    """Lets the n-th system call of files fail, once, and counts them.

    A write that fails has written half. A close that fails has closed.
    """

    def __init__(self, monkeypatch):
        self.left = -1
        self.seen = set()
        self.failed = ""  # the name of the last call that failed
        monkeypatch.setattr(os, "fsync", self.wrapped("fsync", lambda descriptor: None))  # which would wait for the disk
        for name in ("open", "replace", "unlink", "fchmod", "chmod", "mkdir", "rmdir", "link", "stat", "fstat", "lseek", "pread"):
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        monkeypatch.setattr(os, "close", self.wrapped("close", os.close, before=os.close))
        monkeypatch.setattr(os, "pwrite", self.wrapped("pwrite", os.pwrite, before=half(os.pwrite, 1)))
        monkeypatch.setattr(fcntl, "flock", self.wrapped("flock", fcntl.flock))
        monkeypatch.setattr(mmap, "mmap", self.wrapped("mmap", mmap.mmap))
        monkeypatch.setattr(builtins, "open", self.opening(open))

    def wrapped(self, name, call, before=None):
        def failing(*arguments, **options):
            self.left -= 1
            if self.left >= 0:
                self.seen.add(name)
            if self.left == 0:
                self.failed = name
                if before is not None:
                    before(*arguments)
                raise OSError(28, "No space left on device")
            return call(*arguments, **options)

        return failing

    def opening(self, call):
        opened = self.wrapped("open", call)
        return lambda *arguments, **options: File(opened(*arguments, **options), self)

    def runs(self, n, use):
        """Whether it fails with an OSError when the n-th call does; None if it has fewer calls."""
        self.left = n
        try:
            use()
        except OSError:
            assert self.left <= 0
            return True
        finally:
            reached, self.left = self.left <= 0, -1
        return False if reached else None


def half(call, k):
    """The call with half of argument k, the bytes that it writes."""
    return lambda *arguments: call(*arguments[:k], memoryview(arguments[k])[: len(arguments[k]) // 2], *arguments[k + 1 :])


class File:
    """An open file whose calls can fail."""

    def __init__(self, file, failing):
        self._file = file
        self.write = failing.wrapped("write", file.write, before=half(file.write, 0))
        self.truncate = failing.wrapped("ftruncate", file.truncate)
        self.close = failing.wrapped("close", file.close, before=file.close)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def descriptors():
    """How many files are open, where the system says it."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
