"""A journal, a record and a table belong together: another of the same name is not changed."""

import gc
import json
import os
import shutil

import numpy as np
import pytest
from common import same_bits
from mapped_tables import D, V, leave_journal, optimizer_of, state_in, state_of, train

import fastembed as fe
from fastembed import checkpoint
from fastembed.checkpoint import CheckpointError
from fastembed.io.atomic import beside

pytestmark = pytest.mark.on_reference


@pytest.fixture(params=["t.npy", "t.safetensors"])
def path(request, tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / request.param


def other_table(path, rng=2):
    """Another table of the same name, shape and dtype, elsewhere."""
    made = path.parent.with_name("other") / path.name
    made.parent.mkdir(exist_ok=True)
    fe.Embedding.create(made, (V, D), rng=rng).close()
    return made


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_flush_after_the_table_was_replaced(path, is_removed):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    train(layer, optimizer_of("SGD", layer), range(2))
    if is_removed:
        os.unlink(path)
    else:
        os.replace(other_table(path), path)
    found = None if is_removed else path.read_bytes()
    for use in (layer.flush, layer.close, lambda: layer.resize(V + 1), lambda: layer.resize(V)):
        with pytest.raises(
            OSError, match=f"{path.name} has been replaced or removed since it was opened, and nothing is written"
        ):
            use()
    assert (path.read_bytes() if path.exists() else None) == found
    assert sorted(os.listdir(path.parent)) == sorted([path.name] * (not is_removed) + [f"{path.name}.lock"])
    assert not same_bits(layer.state_dict()["weight"], fe.Embedding(V, D, rng=1).weight)
    layer.storage.close()


def test_a_flush_after_a_state_was_replaced(path):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    optimizer = optimizer_of("SparseAdam", layer)
    train(layer, optimizer, range(2))
    state = beside(path, "SparseAdam.exp_avg")
    shutil.copy(state, path.with_name("copy"))
    os.replace(path.with_name("copy"), state)
    with pytest.raises(OSError, match="exp_avg has been replaced"):
        layer.flush()
    layer.storage.close()


def journal_left(path, init=None):
    layer = fe.Embedding.create(path, (V, D), init=init, rng=1)
    layer.set_rows([1, 2, 5], 7.0)
    expected = layer.weight.tobytes()
    leave_journal(layer)
    layer.storage.close()
    return expected


@pytest.mark.parametrize("init", [None, 0])
def test_a_journal_beside_another_table(path, init):
    journal_left(path, init)
    os.replace(other_table(path), path)
    found = path.read_bytes()
    for options in ({"mode": "r"}, {"mode": "r+"}, {"snapshot": True}):
        with pytest.raises(CheckpointError, match=rf"{path.name}\.journal is not a journal of the {path.name} that is there"):
            fe.Embedding.open(path, **options)
    assert path.read_bytes() == found
    os.unlink(beside(path, "journal"))
    fe.Embedding.open(path, "r+").close()


def test_a_journal_beside_a_checkpoint_that_was_saved_anew(tmp_path):
    path = tmp_path / "t.safetensors"
    first = fe.Embedding(40, 6, rng=1)
    first.save(path)
    layer = fe.Embedding.open(path, "r+")
    layer.set_rows([1], 5.0)
    layer.flush()
    layer.set_rows([1, 2], 7.0)
    leave_journal(layer)
    layer.storage.close()
    first.save(path)  # the rows that the journal knows are the same
    with pytest.raises(CheckpointError, match="is not a journal of the"):
        fe.Embedding.open(path, "r+")
    assert np.array_equal(fe.load(path).weight, first.weight)


def test_a_journal_beside_a_table_with_the_same_inode(path):
    """File systems give the inode of a removed file to the next one."""
    journal_left(path)
    path.write_bytes(other_table(path).read_bytes())
    with pytest.raises(CheckpointError, match="bring back the file that it was written for, or remove the journal"):
        fe.Embedding.open(path, "r+")


def test_a_copy_of_the_files_is_known(path):
    expected = journal_left(path)
    for mode in ("r", "r+"):
        copied = path.parent.with_name(f"copied {mode}")
        shutil.copytree(path.parent, copied)
        with fe.Embedding.open(copied / path.name, mode) as layer:
            assert layer.weight.tobytes() == expected


def test_all_rows_changed_and_no_number_in_the_file(tmp_path):
    """Such a journal belongs to one inode: nothing else tells the file from another."""
    path = tmp_path / "t.npy"
    layer = fe.Embedding.create(path, (V, D), rng=1)
    layer.set_rows(range(V), 2.0)
    leave_journal(layer)
    layer.storage.close()
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("t.npy", "t.npy.journal"):
        shutil.copy(tmp_path / name, copied / name)
    with pytest.raises(CheckpointError, match=r"is not a journal of the t\.npy that is there"):
        fe.Embedding.open(copied / "t.npy")
    with fe.Embedding.open(path, "r+") as layer:
        assert (layer.weight == 2).all()


def test_a_record_beside_another_table(tmp_path):
    path = tmp_path / "in" / "t.safetensors"
    path.parent.mkdir()
    with fe.Embedding.create(path, (V, D), rng=1) as layer:
        train(layer, optimizer_of("SparseAdam", layer), range(2))
    os.replace(other_table(path), path)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"optimizer\.json and the state beside it belong to another table"):
            fe.Embedding.open(path, "r+")
        checkpoint.save(path, {"weight": np.zeros((V, D), "f4")})  # which has no number
    with fe.Embedding.open(path) as layer:
        assert not layer.weight.any()


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_a_record_beside_a_table_that_was_saved_anew(tmp_path, name):
    path, saved = tmp_path / "t.safetensors", fe.Embedding(V, D, rng=1)
    saved.save(path)
    with fe.Embedding.open(path, "r+") as layer:
        train(layer, optimizer_of(name, layer), range(2))
    with fe.Embedding.open(path, "r+") as layer:  # its own
        optimizer = optimizer_of(name, layer)
        assert optimizer.step_counts == [2]
        train(layer, optimizer, range(2, 3))
    saved.save(path)
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"optimizer\.json and the state beside it belong to another table"):
            fe.Embedding.open(path, "r+")
    assert same_bits(fe.load(path).weight, saved.weight)
    beside(path, "optimizer.json").unlink()
    with fe.Embedding.open(path, "r+") as layer:
        for kept in (layer, saved):
            train(kept, optimizer_of(name, kept), range(2))
        assert same_bits(layer.state_dict()["weight"], saved.state_dict()["weight"])


def test_a_record_of_an_optimiser_that_was_made_and_not_flushed(tmp_path):
    path = tmp_path / "t.safetensors"
    fe.Embedding(V, D, rng=1).save(path)
    layer = fe.Embedding.open(path, "r+")
    optimizer_of("Adam", layer)
    layer.storage.close()
    with fe.Embedding.open(path, "r+") as layer:
        assert optimizer_of("Adam", layer).step_counts == [0]
    assert fe.load(path).num_embeddings == V


def test_an_optimiser_leaves_a_table_that_was_replaced_as_it_is(tmp_path):
    path = tmp_path / "t.safetensors"
    saved = fe.Embedding(V, D, rng=1)
    saved.save(path)
    layer = fe.Embedding.open(path, "r+")
    saved.save(path)
    found = path.read_bytes()
    with pytest.raises(OSError, match="has been replaced or removed since it was opened"):
        optimizer_of("Adam", layer)
    assert path.read_bytes() == found
    assert sorted(os.listdir(tmp_path)) == ["t.safetensors", "t.safetensors.lock"]
    layer.storage.close()


def test_files_of_an_earlier_version(path):
    """Without numbers, identities and checksums; the next flush adds what it can."""
    with fe.Embedding.create(path, (V, D), rng=1) as layer:
        optimizer = optimizer_of("SparseAdam", layer)
        train(layer, optimizer, range(2))
        expected = state_of(layer, optimizer)
    record = beside(path, "optimizer.json")
    now = json.loads(record.read_bytes())
    record.write_text(json.dumps({key: value for key, value in now.items() if key not in ("table", "crc32")}, indent=1))
    assert state_in(path, "SparseAdam") == expected
    with fe.Embedding.open(path, "r+") as layer:
        optimizer = optimizer_of("SparseAdam", layer)
        train(layer, optimizer, range(2, 3))
        expected = state_of(layer, optimizer)
    assert json.loads(record.read_bytes())["table"] == now["table"]
    assert state_in(path, "SparseAdam") == expected


def test_training_marks_the_checksum_of_a_checkpoint_as_outdated(tmp_path):
    path = tmp_path / "c"
    checkpoint.save(path, {"weight": np.zeros((V, D), "f4"), "b": np.ones(3)}, "mine")
    whole = path.read_bytes()
    fe.Embedding.open(path, "r+").close()
    assert path.read_bytes() == whole
    with fe.Embedding.open(path, "r+") as layer:
        layer.set_rows([1], 5.0)
    tensors, description = checkpoint.load(path)
    assert (description, tensors["weight"].sum(), tensors["b"].sum()) == ("mine", 5 * D, 3)
    assert b'"fastembed_crc32":"outdated"' in path.read_bytes()
    checkpoint.save(path, {"weight": np.zeros((V, D), "f4")}, "mine")
    with fe.Embedding.open(path, "r+") as layer:
        layer.resize(V + 1)
    assert checkpoint.load(path)[0]["weight"].shape == (V + 1, D)


def test_a_second_close_after_the_file_is_gone_is_quiet(path, recwarn):
    layer = fe.Embedding.create(path, (V, D), rng=1)
    layer.set_rows([0], 5.0)
    os.remove(path)
    with pytest.raises(OSError, match="replaced or removed"):
        layer.close()
    assert layer.state_dict()["weight"][0, 0] == 5  # nothing is lost yet
    layer.close()
    with pytest.raises(ValueError, match="is closed"):
        layer.weight  # noqa: B018
    del layer
    gc.collect()
    assert not [warning for warning in recwarn if "is lost" in str(warning.message)]


def test_a_table_is_not_saved_over_itself(path, tmp_path):
    with fe.Embedding.create(path, (V, D), rng=1) as layer:
        layer.set_rows([0], 5.0)
        (tmp_path / "link").symlink_to(path)
        for target in (path, tmp_path / "link"):
            with pytest.raises(ValueError, match=r"is the file of this table itself, which flush\(\) writes"):
                layer.save(target)
            with pytest.raises(ValueError, match="is the file of this table itself"):
                layer.save_vectors(target, "safetensors")
        layer.flush()
    with fe.Embedding.open(path) as again:
        assert again(0)[0] == 5
