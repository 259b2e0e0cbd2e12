"""Ids outside the tables of layers, under each policy: calls, gradients, steps as the reference."""

import numpy as np
import pytest
from common import BOUNDS, examples, outcome, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import reference

pytestmark = pytest.mark.on_reference

V, D = 5, 3


def compared(layer, like, calls, name):
    """Run the same calls and backward passes on both sides, and compare everything."""
    pairs = ((fe.optim, layer), (reference.optim, like))
    opt, like_opt = (None, None) if name is None else (getattr(optim, name)(of, lr=0.1) for optim, of in pairs)
    rng = np.random.default_rng(0)
    for arguments, options in calls:
        nested = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in options.items()}
        got = outcome(layer, *arguments, **options)
        expected = outcome(like, *(a.tolist() for a in arguments), **nested)
        assert got[0] == expected[0], (got, expected)
        if got[0] == "raised":
            assert got[1:] == expected[1:]
            continue
        assert same_bits(got[1], np.array(expected[1]).reshape(got[1].shape))
        dout = rng.standard_normal(got[1].shape)
        layer.backward(dout, optimizer=opt)
        like.backward(dout.tolist(), optimizer=like_opt)
        for key, grad in layer.grads().items():
            assert grad.ids.tolist() == like.grads()[key].ids
            assert same_bits(grad.rows, np.array(like.grads()[key].rows).reshape(-1, D))
    for key, table in layer.state_dict().items():
        assert same_bits(table, np.array(like.tables[key]))


def draw_ids(rng, shape):
    """Ids in and around the table, and at the ends of 64 bits."""
    ids = rng.integers(-3, V + 3, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([2**63 - 1, -(2**63)], shape), ids)


@pytest.mark.parametrize("bounds", BOUNDS)
@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1), name=st.sampled_from([None, "SGD", "Adam"]), padding_idx=st.sampled_from([None, 0]),
    max_norm=st.sampled_from([None, 0.7]), in_place=st.booleans(), mode=st.sampled_from([None, "sum", "mean", "max"]),
)  # fmt: skip
def test_one_table(bounds, seed, name, padding_idx, max_norm, in_place, mode):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((V, D))
    options = {"padding_idx": padding_idx, "max_norm": max_norm, "max_norm_in_place": in_place, "bounds": bounds}
    kind = "Embedding" if mode is None else "EmbeddingBag"
    options |= {} if mode is None else {"mode": mode}
    layer = getattr(fe, kind).from_pretrained(table.copy(), **options).count_lookups(bool(rng.random() < 0.3))
    like = getattr(reference, kind).from_pretrained(table.tolist(), **options)
    compared(layer, like, [((draw_ids(rng, (2, 4)),), {}) for _ in range(4)], name)
    assert layer.bounds == bounds
    assert ("bounds" in repr(layer)) == (bounds != "raise")


@pytest.mark.parametrize("bounds", BOUNDS)
@examples(40)
@given(
    seed=st.integers(0, 2**32 - 1), name=st.sampled_from([None, "SGD", "Adam"]), n_types=st.sampled_from([0, 2]),
    norm=st.sampled_from([None, "rms", "layer"]), token_scale=st.sampled_from([1.0, 2.5]), padded=st.booleans(),
)  # fmt: skip
def test_token_position(bounds, seed, name, n_types, norm, token_scale, padded):
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((n, D)) for n in (V, 3, n_types) if n]
    options = {"norm": norm, "token_scale": token_scale, "bounds": bounds}
    layer = fe.TokenPositionEmbedding.from_arrays(*(table.copy() for table in tables), **options)
    like = reference.TokenPositionEmbedding.from_arrays(*(table.tolist() for table in tables), **options)
    calls = []
    for _ in range(4):
        given_options = (
            {"position_ids": rng.integers(-2, 5, (2, 4))} if rng.random() < 0.5 else {"start": int(rng.integers(0, 2))}
        )
        if n_types and rng.random() < 0.7:
            given_options["type_ids"] = rng.integers(-1, 4, (2, 4))
        if padded:
            given_options["mask"] = rng.random((2, 4)) < 0.7
        calls.append(((draw_ids(rng, (2, 4)),), given_options))
    compared(layer, like, calls, name)
    assert layer.bounds == bounds


def test_plain_calls_and_mapped_tables(tmp_path):
    table = np.arange(15.0).reshape(V, D)
    np.save(tmp_path / "table.npy", table)
    for bounds, rows in (("wrap", [4, 0, 2]), ("clip", [0, 4, 2]), ("zero", [-1, -1, 2])):
        expected = np.vstack([table, np.zeros(D)])[rows]
        layer = fe.Embedding.from_pretrained(table, bounds=bounds)
        for ids in ([-1, 5, 2], np.array([-1, 5, 2]), np.array([-1, 5, 2], "i1")):
            assert same_bits(layer(ids), expected)
            with fe.Embedding.open(tmp_path / "table.npy", bounds=bounds) as mapped:
                assert same_bits(mapped(np.tile(ids, 30)), np.tile(expected, (30, 1)))
        assert same_bits(layer(-1), expected[0])
        assert same_bits(fe.TokenPositionEmbedding.from_arrays(table, np.zeros((V, D)), bounds=bounds)(-1, 2), expected[0])
    for make in (fe.Embedding, fe.EmbeddingBag):
        with pytest.raises(ValueError, match="bounds must be one of raise, wrap, clip, zero; got 'mean'"):
            make(2, 2, bounds="mean")
    with pytest.raises(ValueError, match="bounds must be one of raise, wrap, clip, zero; got 1"):
        fe.TokenPositionEmbedding(2, 2, 2, bounds=1)
