"""Checkpoints: other numbers of ranks, deltas, damage, and saves that fail."""

import json
import os

import numpy as np
import pytest
from common import same_bits
from loopback import results, run
from runs import V, sharded, share, table, train_bags, train_lookups, whole_state

import fastembed as fe
from fastembed import checkpoint, distributed
from fastembed.distributed import PeerError

RANGES_TO_HASH = {1: "ranges", 2: "hash", 3: "ranges", 5: "hash"}


def made(group, folder, optimizer="AdamW", partition="ranges", **options):
    """A layer and a Parameter, their optimiser, and their checkpoints."""
    layer = sharded(group, partition=partition)
    weight = fe.Parameter(np.ones(3))
    opt = getattr(fe.optim, optimizer)([layer, weight], lr=0.01)
    return layer, weight, opt, distributed.Checkpoints(folder, group, {"emb": layer, "w": weight}, opt, **options)


def step(layer, weight, opt, number):
    """A step of the layer, and one of the Parameter."""
    ids, factor = (part[share(layer.group.rank, layer.group.size)] for part in draw(number))
    layer.backward(layer(ids) * factor)
    weight.grad = np.array([1.0, 2.0, 3.0])
    opt.step()
    opt.zero_grad()


def draw(number):
    rng = np.random.default_rng([3, number])
    return rng.integers(V, size=(8,)), rng.standard_normal((8, 1)).astype(np.float32)


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
def test_another_number_of_ranks(before, after, tmp_path):
    def first(group):
        layer, weight, opt, saves = made(group, tmp_path, partition=RANGES_TO_HASH[before])
        for number in range(6):
            step(layer, weight, opt, number)
        assert saves.save({"step": 6}) == 1
        return whole_state(layer, opt), weight.data, opt.state_dict()["items"][1]["exp_avg"]["data"]

    def second(group):
        layer, weight, opt, saves = made(group, tmp_path, partition="hash" if after == 3 else "ranges")
        step(layer, weight, opt, 99)
        assert saves.load() == {"step": 6}
        assert opt.step_counts == [6, 6]
        return whole_state(layer, opt), weight.data, opt.state_dict()["items"][1]["exp_avg"]["data"]

    expected, data, average = results(before, first)[0]
    for state, own_data, own_average in results(after, second):
        assert state.keys() == expected.keys() == {"weight", "exp_avg", "exp_avg_sq"}
        assert all(same_bits(state[name], expected[name]) for name in expected)
        assert same_bits(own_data, data)
        assert same_bits(own_average, average)


def test_a_run_that_goes_on_has_the_bits_of_one_that_did_not_stop(tmp_path):
    def go(group, first, end):
        layer, weight, opt, saves = made(group, tmp_path)
        if first:
            assert saves.load() == first
        for number in range(first, end):
            step(layer, weight, opt, number)
        saves.save(end)
        return whole_state(layer, opt)

    whole = results(3, lambda group: go(group, 0, 12))[0]
    results(2, lambda group: go(group, 12, 12))  # another save of the same
    for folder in os.listdir(tmp_path):
        os.rename(tmp_path / folder, tmp_path / f"whole-{folder}")
    results(2, lambda group: go(group, 0, 5))
    parts = results(4, lambda group: go(group, 5, 12))[0]
    assert all(same_bits(parts[name], whole[name]) for name in whole)


def test_deltas(tmp_path):
    def first(group):
        layer, weight, opt, saves = made(group, tmp_path, "RowWiseAdagrad")
        saves.save(0)
        for number in range(3):
            step(layer, weight, opt, number)
            saves.save(number + 1, delta=True)
        return layer.to_array(), int(layer.changed.sum())

    def second(group):
        layer, _, opt, saves = made(group, tmp_path, "RowWiseAdagrad", "hash")
        assert saves.load() == 3
        assert opt.step_counts == [3, 3]
        middle, _, _, other = made(group, tmp_path, "RowWiseAdagrad", "hash")
        assert other.load(2) == 1
        return layer.to_array(), middle.to_array()

    found = results(3, first)
    expected = found[0][0]
    assert [n_changed for _, n_changed in found] == [0, 0, 0]
    for last, middle in results(2, second):
        assert same_bits(last, expected)
        assert not same_bits(middle, expected)
    saved = [json.loads(json.loads((tmp_path / f"{k:08d}/manifest.json").read_text())["manifest"]) for k in (1, 2, 3, 4)]
    assert [manifest["base"] for manifest in saved] == [None, 1, 2, 3]
    for k, manifest in enumerate(saved[1:]):
        ids = {int(row) for row in draw(k)[0]}
        assert sum(spans["emb"][2] for spans in manifest["rows"]) == len(ids)
        files = [checkpoint.load(tmp_path / f"{k + 2:08d}/rank-{rank}-of-3.safetensors")[0] for rank in range(3)]
        assert {int(row) for tensors in files for row in tensors["emb.rows"]} == ids


def test_the_last_two_are_kept_with_their_deltas(tmp_path):
    def work(group):
        _, _, _, saves = made(group, tmp_path, "RowWiseAdagrad")
        for delta in (False, True, False, True, True, False):
            saves.save(delta=delta)
        return sorted(os.listdir(tmp_path))

    for names in results(2, work):
        assert names == ["00000003", "00000004", "00000005", "00000006"]


def test_only_the_blocks_needed_are_read(tmp_path, monkeypatch):
    from fastembed.distributed.saves import row_file

    monkeypatch.setattr(row_file, "_BLOCK", 5 * 5 * 4)  # five rows
    results(1, lambda group: distributed.Checkpoints(tmp_path, group, {"emb": sharded(group)}).save())
    (file,) = tmp_path.glob("*/rank-0-of-1.safetensors")
    raw = bytearray(file.read_bytes())
    raw[-4 * 5 * 4] ^= 1  # in the fourth row from the end, and so in block 9 or 10
    file.write_bytes(raw)

    def load(group):
        layer = sharded(group)
        layer.weight[:] = 0
        saves = distributed.Checkpoints(tmp_path, group, {"emb": layer})
        try:
            saves.load()
        except (ValueError, PeerError) as error:
            return error, layer.weight.any()

    (first, is_first), (second, is_second) = results(2, load)
    assert isinstance(first, PeerError)
    assert "CheckpointError" in str(first)
    assert "rows from 45 on of 'emb.weight'" in str(second)
    assert not is_first
    assert not is_second

    digests = json.loads(json.loads((file.parent / "manifest.json").read_text())["manifest"])["files"][0]
    with row_file.RowFile(file, digests) as rows:
        found = rows.read("emb.weight", np.arange(10, 20), V, (5,), np.dtype(np.float32))
    assert same_bits(found, table()[10:20])


@pytest.mark.parametrize("damage", ["manifest", "common", "missing file", "header", "other layer", "no checkpoint"])
def test_damage(damage, tmp_path):
    results(2, lambda group: made(group, tmp_path)[3].save())
    folder = tmp_path / "00000001"
    name = {"manifest": "manifest.json", "common": "common.safetensors"}.get(damage, "rank-1-of-2.safetensors")
    raw = bytearray((folder / name).read_bytes())
    if damage in ("manifest", "common"):
        raw[-9] ^= 1
        (folder / name).write_bytes(raw)
    elif damage == "header":
        (folder / name).write_bytes(raw[:20])
    elif damage == "missing file":
        (folder / name).unlink()
    elif damage == "no checkpoint":
        folder.rename(tmp_path / "00000001.partial")

    def load(group):
        if damage == "other layer":
            layer = distributed.ShardedEmbedding(group, V, 4, rng=0)
            return distributed.Checkpoints(tmp_path, group, {"emb": layer}).load()
        layer, _, opt, saves = made(group, tmp_path)
        layer.weight[:] = 7
        try:
            saves.load()
        finally:
            assert (layer.weight == 7).all()
            assert opt.step_counts == [0, 0]

    found, errors = run(2, load)
    assert found == [None, None]
    kinds = {type(error) for error in errors.values()}
    assert len(errors) == 2
    assert kinds <= {PeerError, checkpoint.CheckpointError, FileNotFoundError}
    assert kinds != {PeerError}


def test_a_rank_that_cannot_write(tmp_path, monkeypatch):
    """No checkpoint in any rank, and the run goes on."""
    from fastembed.distributed.saves import row_file

    write = row_file.write

    def work(group):
        layer, weight, opt, saves = made(group, tmp_path)
        saves.save("first")
        step(layer, weight, opt, 0)
        try:
            saves.save("second")
        except (OSError, PeerError) as error:
            step(layer, weight, opt, 1)
            return type(error), saves.load()

    def failing(path, arrays):
        if path.name == "rank-1-of-2.safetensors" and "00000002" in str(path):
            raise OSError("the disk is full")
        return write(path, arrays)

    monkeypatch.setattr(row_file, "write", failing)
    assert results(2, work) == [(PeerError, "first"), (OSError, "first")]
    assert sorted(os.listdir(tmp_path)) == ["00000001", "00000002.partial"]


def test_bags_and_several_layers(tmp_path):
    def work(group):
        bag = sharded(group, kind=distributed.ShardedEmbeddingBag, partition="hash")
        emb = sharded(group, "float64")
        opt = fe.optim.SGD([bag, emb], lr=0.1, momentum=0.9)
        part = share(group.rank, group.size)
        train_bags(bag, opt, range(2), part)
        train_lookups(emb, opt, range(2), part)
        saves = distributed.Checkpoints(tmp_path, group, {"bag": bag, "emb": emb}, opt)
        saves.save()
        expected = bag.to_array(), emb.to_array()
        train_bags(bag, opt, range(2), part)
        saves.load()
        return all(same_bits(a, b) for a, b in zip(expected, (bag.to_array(), emb.to_array()), strict=True))

    assert results(3, work) == [True] * 3


def test_arguments():
    (group,) = results(1, lambda group: group)
    layer = sharded(group)
    with pytest.raises(TypeError, match=r"layers\['emb'\] must be a layer of this group"):
        distributed.Checkpoints("x", group, {"emb": 1})
    with pytest.raises(ValueError, match="items of the optimizer must be among the layers"):
        distributed.Checkpoints("x", group, {"emb": layer}, fe.optim.SGD(sharded(group)))
    with pytest.raises(ValueError, match="a delta requires a checkpoint"):
        distributed.Checkpoints("x", group, {"emb": layer}).save(delta=True)
