"""Names of shared tables: who may take which, what is refused, generations, and leftovers."""

import errno
import os
import pickle
import stat

import numpy as np
import pytest

import fastembed as fe
from fastembed import cli
from fastembed.checkpoint import CheckpointError
from fastembed.io.shared import leftovers, segment

pytestmark = pytest.mark.on_reference


def layer_of(value, shape=(5, 3), dtype="f4"):
    return fe.Embedding.from_pretrained(np.full(shape, value, dtype))


def test_a_name_is_taken_once(name):
    layer = layer_of(1)
    shared = layer.share(name)
    with pytest.raises(FileExistsError, match=f"{name} is there already: replace=True publishes this table in its place"):
        layer_of(2).share(name)
    with pytest.raises(BlockingIOError, match="belongs to a process that is running, which alone writes it"):
        layer_of(2).share(name, replace=True)
    with pytest.raises(ValueError, match="the layer is shared already, as"):
        layer.share(name + "b")
    table = fe.Embedding.attach(name)
    shared.close()
    with pytest.raises(ValueError, match=r"sharing of .* has ended"):
        shared.publish()
    with pytest.raises(ValueError, match=r"has rows of 3 float32, and this table of 4 float32: remove it first"):
        layer_of(2, (5, 4)).share(name, replace=True)
    other = layer_of(2, (9, 3)).share(name, replace=True)
    assert (table([8]) == 2).all()
    assert (other.generation, table.generation) == (2, 2)
    layer.set_rows([1], 5.0)  # no longer shared
    assert (table.snapshot() == 2).all()
    layer.share(name + "b")  # shared anew
    assert sorted(path.name for path in segment.paths() if name in path.name) == [f"fastembed.{name}", f"fastembed.{name}b"]


def test_a_removed_name_and_its_next_table(name):
    first, second = layer_of(1), layer_of(3)
    shared = first.share(name)
    table = fe.Embedding.attach(name)
    shared.remove()
    assert (table([1]) == 1).all()
    assert (table.snapshot() == 1).all()
    with pytest.raises(FileNotFoundError, match="no shared table"):
        fe.Embedding.attach(name)
    again = second.share(name)
    assert (table([1]) == 3).all()
    again.remove()
    layer_of(3, (5, 4)).share(name)
    with pytest.raises(ValueError, match=r"now shared as .* has rows of 4 float32, not of 3 float32: attach it again"):
        table([1])


def test_a_name_is_removed_after_sharing_has_ended(name):
    with layer_of(1).share(name) as shared:
        table = fe.Embedding.attach(name)
    assert (table([1]) == 1).all()
    shared.remove()
    shared.remove()
    assert shared.is_closed
    assert not shared.path.exists()
    assert (table([1]) == 1).all()
    other = layer_of(2).share(name)  # whom remove() of the first one leaves alone, written or not
    shared.remove()
    other.close()
    shared.remove()
    assert (table([1]) == 2).all()
    third = layer_of(3).share(name, replace=True)
    other.remove()
    third.close()
    other.remove()
    assert (table([1]) == 3).all()
    reopened = segment.open_segment(third.path, to_write=True)
    with pytest.raises(BlockingIOError, match="belongs to a process that is running"):
        third.remove()
    reopened.close()
    third.remove()
    assert not third.path.exists()


def test_a_killed_replacement_is_looked_for_in_each_call(name):
    """Killed between the two marks of a replacement, before the new file is in place or after."""
    layer = layer_of(1)
    shared = layer.share(name)
    table = fe.Embedding.attach(name)
    old = shared._segment
    old.rows.set_replaced(False)
    assert (table([1]) == 1).all()
    layer.weight[:] = 2
    made = segment.create(shared.path, layer.weight, 2, 0o600)
    os.replace(str(shared.path) + ".new", shared.path)
    assert (table([1]) == 2).all()
    made.file.close()


def test_paths(tmp_path):
    layer = layer_of(1)
    shared = layer.share(tmp_path / "table", permissions=0o640)
    assert stat.S_IMODE((tmp_path / "table").stat().st_mode) == 0o640
    table = fe.Embedding.attach(f"{tmp_path}/table")
    assert (pickle.loads(pickle.dumps(table))([1]) == 1).all()
    shared.publish()
    assert stat.S_IMODE((tmp_path / "table").stat().st_mode) == 0o640
    with pytest.raises(OSError, match="belongs to a process"):
        leftovers.remove(tmp_path / "table")
    shared.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", ["", ".a", "-a", "a.new", "a" * 201, "a b", "ä", 3, None, b"a"])
def test_invalid_names(bad):
    for call in (fe.Embedding.attach, layer_of(1).share):
        with pytest.raises(ValueError, match="name must be a path, or a name of at most 200 letters"):
            call(bad)


def test_what_a_table_has_to_be(name):
    layer_of(1).share(name)
    assert fe.Embedding.attach(name, num_embeddings=5, embedding_dim=3, dtype="float32").num_embeddings == 5
    wanted = (("num_embeddings", 4, "5, not 4"), ("embedding_dim", 4, "3, not 4"), ("dtype", "f8", "float32, not float64"))
    for what, value, text in wanted:
        with pytest.raises(ValueError, match=f"{what} of the table shared as '{name}' is {text}"):
            fe.Embedding.attach(name, **{what: value})
    with pytest.raises(ValueError, match="bounds"):
        fe.Embedding.attach(name, bounds="none")
    with fe.Embedding.attach(name) as table:
        pass
    with pytest.raises(ValueError, match="is closed"):
        table([1])


@pytest.mark.parametrize(
    ("at", "data", "text"),
    [
        (0, b"x", "is not a shared table"),
        (16, b"int32\0", "damaged shared table: 5 x 3 of 'int32"),
        (32, b"\x03", "is a shared table of layout 3, which this version does not read"),
        (40, b"\xff" * 8, "damaged shared table: -1 x 3"),
        (40, b"\x06", r"damaged shared table: \d+ bytes, and not \d+|damaged"),
        (46, b"\xff", "damaged shared table"),
        (48, b"\xff\xff\xff", "damaged shared table"),
        (56, b"\0" * 8, "damaged shared table"),
    ],
)
def test_damaged_headers(tmp_path, at, data, text):
    path = tmp_path / "table"
    layer_of(1, (5, 3)).share(path).close()
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    if at == 40 and len(data) == 1:  # one row more, of which nothing else shows
        content = content[:-4096]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=text):
        fe.Embedding.attach(path)
    with pytest.raises(CheckpointError, match=text):
        layer_of(1).share(path, replace=True)
    with pytest.raises(CheckpointError, match=text):
        leftovers.remove(path)
    assert path.read_bytes() == bytes(content)


def test_files_that_are_not_trusted(tmp_path):
    path = tmp_path / "table"
    layer_of(1).share(path).close()
    path.chmod(0o666)
    with pytest.raises(PermissionError, match="everybody may write"):
        fe.Embedding.attach(path)
    refused = [(0o602, "0o602"), (0o1777, "0o1777"), (0, "0o0"), (-1, "-0o1"), (8**999, "<an integer of 2998 bits>")]
    for permissions, shown in refused:
        with pytest.raises(ValueError, match=f"not everybody may write, got {shown}$"):
            layer_of(1).share(tmp_path / "b", permissions=permissions)
    (tmp_path / "short").write_bytes(b"fast")
    os.mkfifo(tmp_path / "pipe")
    for other, error in (("short", CheckpointError), ("pipe", OSError), ("", OSError), ("none", FileNotFoundError)):
        with pytest.raises(error):
            fe.Embedding.attach(tmp_path / other)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_table_of_another_user(tmp_path):
    layer_of(1).share(tmp_path / "table", permissions=0o400).close()
    (tmp_path / "table").chmod(0)
    with pytest.raises(PermissionError):
        fe.Embedding.attach(tmp_path / "table")


def test_no_space(name, monkeypatch):
    """Nothing has happened, neither here nor there."""
    layer = layer_of(1)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"no space for .* bytes of a shared table"):
            layer.share(name)
    assert not [path for path in segment.paths() if name in path.name]
    shared = layer.share(name)
    table = fe.Embedding.attach(name)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        loading = {"weight": np.zeros((5, 3))}
        for change in (lambda: layer.set_rows([1], 2.0), shared.publish, lambda: layer.load_state_dict(loading)):
            with pytest.raises(OSError, match="no space for"):
                change()
            assert (layer.weight == 1).all()
            assert (table.snapshot() == 1).all()
    layer.set_rows([1], 2.0)
    assert (table([1]) == 2).all()


def test_a_system_without_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(segment, "MEMORY", tmp_path / "none")
    with pytest.raises(OSError, match=r"there is no .*none here for the name a: give the path of a file"):
        layer_of(1).share("a")
    assert not list(leftovers.tables())


def shown(capsys, *arguments):
    status = cli.main(["shared", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_lists_and_removes(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(segment, "MEMORY", tmp_path)
    shared = layer_of(1).share(name)
    (tmp_path / "fastembed.other.new").write_bytes(b"x")
    status, out, _ = shown(capsys, "list")
    assert status == 0
    assert f"{name}: 5 x 3 float32, generation 1, 0.0 MiB, written by a running process\n" in out
    assert "other: unfinished or not readable, 0.0 MiB, nobody writes it\n" in out
    assert shown(capsys, "remove", "--all") == (0, "removed other\n", "")
    assert "belongs to a process that is running" in shown(capsys, "remove", name)[2]
    shared.close()
    assert shown(capsys, "remove", name) == (0, f"removed {name}\n", "")
    status, _, error = shown(capsys, "remove", name)
    assert status == 2
    assert "no shared table" in error
    assert "give the names of tables, or --all" in shown(capsys, "remove")[2]
    assert shown(capsys, "list") == (0, "", "")


def test_a_path_without_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder for a shared table; a name without / is one in memory"):
        fe.Embedding(2, 2).share(tmp_path / "none" / "table")
