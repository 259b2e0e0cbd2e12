"""Whether a path names something: an error of the system is not an absence."""

import errno
import os

import pytest

import fastembed as fe
from fastembed.io.status import is_other_than_file, is_there


def test_what_a_path_names(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert all(is_there(tmp_path / name) for name in ("file", "link", "."))
    assert not any(is_there(tmp_path / name) for name in ("none", "loop", "file/x", "a\0b"))
    assert [is_other_than_file(tmp_path / name) for name in ("file", "link", "none", ".")] == [False, False, False, True]


@pytest.mark.parametrize(
    "use",
    [
        lambda path: fe.checkpoint.save(path, {}, None),
        lambda path: fe.checkpoint.load(path),
        lambda path: fe.Embedding.create(path, (2, 3)),
        lambda path: fe.open_shards(path),
    ],
)
def test_an_error_of_the_system_is_raised(tmp_path, monkeypatch, use):
    path, stat = tmp_path / "t.safetensors", os.stat

    def failing(name, *arguments, **options):
        if os.fspath(name) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(name))
        return stat(name, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(OSError, match="Input/output error"):
        use(path)
    monkeypatch.undo()
    assert not os.listdir(tmp_path)
