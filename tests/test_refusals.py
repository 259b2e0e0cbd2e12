"""Refusals and small properties that no test of a part comes to: each names what is wrong, and nothing has changed."""

import copy
import importlib
import math

import numpy as np
import pytest

import fastembed as fe
from fastembed import checkpoint, reference
from fastembed.training import Options, Run


def trained_pair():
    layer = fe.Embedding(4, 2, dtype="float64", rng=0)
    opt = fe.optim.Adam(layer, lr=0.1)
    layer.backward(np.ones((1, 2)), [1], optimizer=opt)
    return layer, opt


def test_a_state_of_an_optimiser_that_is_none():
    layer, opt = trained_pair()
    before, weight, state = copy.deepcopy(opt.state_dict()), layer.weight.copy(), opt.state_dict()
    for error, text, bad in (
        (TypeError, "the state must be a mapping, got list", [state]),
        (KeyError, "the state must have the names", {"items": state["items"]}),
        (KeyError, r"a group of the state must have options of .*got \['lr'\]", {**state, "groups": [["lr"]]}),
        (KeyError, r"a group of the state must have options of .*got \{'momentum': 1\}", {**state, "groups": [{"momentum": 1}]}),
    ):
        with pytest.raises(error, match=text):
            opt.load_state_dict(bad)
        assert str(opt.state_dict()) == str(before)
    assert (layer.weight == weight).all()


def test_a_pytorch_state_whose_tables_have_taken_different_steps():
    layer = fe.TokenPositionEmbedding(4, 3, 2, rng=0)
    opt = fe.optim.Adam(layer)
    moments = [{"exp_avg": np.zeros((n, 2)), "exp_avg_sq": np.zeros((n, 2))} for n in (4, 3)]
    state = {
        "state": {k: {"step": 5 - k, **arrays} for k, arrays in enumerate(moments)},
        "param_groups": [{"params": [0, 1], "lr": 0.5}],
    }
    with pytest.raises(ValueError, match="wpe of item 0 has taken 4 steps, and another table of it 5"):
        opt.load_torch_state_dict(state)
    assert opt.lr == 0.001
    assert opt.state_dict()["items"][0]["step"] == 0


def test_options_are_shown():
    _, opt = trained_pair()
    assert repr(opt).startswith("Adam(1 items, lr=0.1, ")
    layer = fe.Embedding(4, 2, max_norm=1.5, norm_type=1, scale_grad_by_freq=True)
    assert (layer.max_norm, layer.norm_type, layer.scale_grad_by_freq) == (1.5, 1.0, True)
    assert fe.EmbeddingBag(4, 2, include_last_offset=True).include_last_offset is True
    pair = fe.TokenPositionEmbedding(4, 3, 2, n_types=2)
    assert pair.wtype is pair.state_dict()["wtype"]
    assert fe.TokenPositionEmbedding(4, 3, 2).wtype is None


def test_a_mode_of_decay_that_there_is_not():
    layer = fe.Embedding(4, 2, rng=0)
    with pytest.raises(ValueError, match="weight_decay_mode must be l2 or decoupled, got 'L2'"):
        fe.optim.RowWiseAdagrad(layer, weight_decay_mode="L2")


def test_what_is_no_table_is_not_written():
    flat = np.zeros(4)
    with pytest.raises(ValueError, match=r"table must have 2 axes \(rows, columns\), got shape \(4,\)"):
        fe.scatter_add(flat, [0], 1.0)
    assert not flat.any()


def test_a_gradient_of_another_table_is_not_stepped_with():
    layer, opt = trained_pair()
    weight = layer.weight.copy()
    layer.backward(np.ones((1, 2)), [3])
    layer.grads()["weight"].shape = (5, 2)
    with pytest.raises(ValueError, match=r"the shape of a gradient, \(5, 2\), does not match that of its table, \(4, 2\)"):
        opt.step()
    assert (layer.weight == weight).all()


def test_norms_beyond_all_numbers_are_infinite():
    layer = fe.Embedding(2, 3, dtype="float64", rng=0)
    layer.backward(np.full((1, 3), 1e200), [1])
    assert layer.grads()["weight"].norm() == math.inf
    table, options = np.full((2, 3), 1e300), {"max_norm": 1.0, "norm_type": 0.01}
    like = reference.Embedding.from_pretrained(table.tolist(), dtype="float64", **options)
    assert fe.Embedding.from_pretrained(table, **options)([0]).tolist() == like([0]) == [[0.0] * 3]


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        checkpoint.load(tmp_path)
    with pytest.raises(OSError, match="is not a regular file"):
        checkpoint.load("/dev/null")


def test_a_run_ends_at_its_last_step():
    run = Run(Options(steps=5, block_size=4, n_embd=4, n_head=2))
    with pytest.raises(ValueError, match="stop_at must be at most the 5 steps of the run, got 6"):
        next(run.train(6))
    assert run.step == 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_of_processors_is_rounded_up(monkeypatch, files, expected):
    threads = importlib.import_module("fastembed._threads")

    def read(path):
        try:
            return files[path.removeprefix("/sys/fs/cgroup/")]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(threads, "_read", read)
    assert threads._quota() == (threads._LIMIT if expected is None else expected)
