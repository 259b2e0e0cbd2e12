"""Counts of look-ups: the reference's, for every layer, with threads, in copies and states."""

import copy
import pickle
import threading

import numpy as np
import pytest
from common import DTYPES, crc, examples, same_bits
from hypothesis import given
from hypothesis import strategies as st

import fastembed as fe
from fastembed import checkpoint, reference

pytestmark = pytest.mark.on_reference


def counts_of(layer):
    return {name: counts.tolist() for name, counts in layer.lookup_counts().items()}


def expected_counts(*pairs):
    """Counts by the reference: (rows of the table, row of each look-up or None) for each table."""
    counts = []
    for n_rows, rows in pairs:
        of_table = [0] * n_rows
        reference.statistics.count(of_table, rows)
        counts.append(of_table)
    return counts


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), is_trained=st.booleans(), dtype=st.sampled_from([*DTYPES, "float16"]))
def test_counts_of_embedding(seed, is_trained, dtype):
    rng = np.random.default_rng(seed)
    options = {"padding_idx": 1, "max_norm": rng.choice([None, 1.0]), "max_norm_in_place": bool(rng.random() < 0.5)}
    layer = fe.Embedding(7, 3, dtype=dtype, rng=0, **options)
    plain = copy.deepcopy(layer)
    assert layer.count_lookups() is layer
    opt = fe.optim.Adam([layer, plain], lr=0.1)
    seen = []
    for shape in ((), (5,), (2, 3), (0,)):
        ids = rng.integers(0, 7, shape)
        assert same_bits(layer(ids), plain(ids))
        assert same_bits(layer(ids.tolist()), plain(ids.tolist()))
        seen += 2 * ids.reshape(-1).tolist()
        if is_trained:
            for each in (layer, plain):
                each.backward(np.ones((*shape, 3), "f4"), ids, optimizer=opt)
    assert counts_of(layer)["weight"] == expected_counts((7, seen))[0]
    assert counts_of(plain) == {}
    assert same_bits(layer.weight, plain.weight)


@examples(40)
@given(seed=st.integers(0, 2**32 - 1), mode=st.sampled_from(["sum", "mean", "max"]), include_last=st.booleans())
def test_counts_of_bags(seed, mode, include_last):
    rng = np.random.default_rng(seed)
    layer = fe.EmbeddingBag(7, 3, mode=mode, padding_idx=2, include_last_offset=include_last, rng=0)
    plain = copy.deepcopy(layer)
    layer.count_lookups()
    ids, offsets = rng.integers(0, 7, 12), [0, 3, 3, 9]
    assert same_bits(layer(ids, offsets), plain(ids, offsets))
    in_bags = ids[:9] if include_last else ids
    assert counts_of(layer)["weight"] == expected_counts((7, [None if i == 2 else i for i in in_bags.tolist()]))[0]


@pytest.mark.parametrize("n_types", [0, 2])
def test_counts_of_tokens_and_positions(n_types):
    options = {"n_types": n_types, "norm": "rms" if n_types else None, "rng": 0}
    layer, plain = fe.TokenPositionEmbedding(5, 6, 4, **options).count_lookups(), fe.TokenPositionEmbedding(5, 6, 4, **options)
    ids = np.array([[4, 1, 1], [0, 4, 2]])
    assert same_bits(layer(ids), plain(ids))
    assert same_bits(layer(3, 5), plain(3, 5))
    assert same_bits(layer(ids, start=2), plain(ids, start=2))
    assert same_bits(layer([[1, 99, 99]], lengths=[1]), plain([[1, 99, 99]], lengths=[1]))
    tokens = [*ids.ravel().tolist(), 3, *ids.ravel().tolist(), 1]
    positions = [0, 1, 2, 0, 1, 2, 5, 2, 3, 4, 2, 3, 4, 0]
    found = counts_of(layer)
    assert [found["wte"], found["wpe"]] == expected_counts((5, tokens), (6, positions))
    assert found.get("wtype") == ([14, 0] if n_types else None)
    statistics_of = layer.statistics()
    assert {name: of.lookups for name, of in statistics_of.items()} == dict.fromkeys(found, 14)
    assert statistics_of["wpe"].never_looked_up == 0


def test_counts_of_hashed_ids_are_of_their_rows():
    layer = fe.HashEmbedding(3, 2, hash=crc, rng=0).count_lookups()
    layer([5, -1])
    layer("word")
    rows = [*layer.rows_of([5, -1]).ravel().tolist(), *layer.rows_of("word").tolist()]
    assert counts_of(layer)["weight"] == expected_counts((3, rows))[0]
    assert layer.statistics()["weight"].lookups == 12


def test_errors_and_backward_count_nothing():
    layer = fe.Embedding(4, 2, rng=0).count_lookups()
    for call in (
        lambda: layer([1, 4]),
        lambda: layer([1.5]),
        lambda: layer([1], out=np.zeros((2, 2), "f4")),
        lambda: layer.count_lookups(1),
        lambda: layer.state_dict(lookups=1),
    ):
        with pytest.raises((IndexError, TypeError, ValueError)):
            call()
    layer.backward(np.ones((1, 2)), ids=[1])
    assert counts_of(layer) == {"weight": [0, 0, 0, 0]}
    layer([1])
    layer.count_lookups()  # goes on
    layer([1])
    assert counts_of(layer) == {"weight": [0, 2, 0, 0]}
    layer.lookup_counts()["weight"][:] = 9  # a copy
    assert counts_of(layer) == {"weight": [0, 2, 0, 0]}
    layer.count_lookups(False)
    layer([1])
    assert counts_of(layer) == {}
    assert counts_of(layer.count_lookups()) == {"weight": [0, 0, 0, 0]}


def test_a_read_only_table_is_counted():
    table = np.arange(8.0).reshape(4, 2)
    table.flags.writeable = False
    for layer in (fe.Embedding.from_pretrained(table), fe.EmbeddingBag.from_pretrained(table)):
        layer.count_lookups()([[3, 3]])
        assert counts_of(layer) == {"weight": [0, 0, 0, 2]}


def test_calls_go_to_c_at_once_unless_they_are_counted():
    layer = fe.Embedding(4, 2, rng=0)
    assert layer._fast_path
    assert not layer.count_lookups()._fast_path
    assert layer.count_lookups(False)._fast_path
    special = fe.Embedding(4, 2, max_norm=1.0, rng=0)
    assert not special.count_lookups().count_lookups(False)._fast_path


def test_threads_count_exactly():
    layer = fe.Embedding(50, 4, rng=0).count_lookups()
    ids = np.random.default_rng(0).integers(0, 50, 300)

    def look_up():
        for _ in range(50):
            layer(ids)

    threads = [threading.Thread(target=look_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts_of(layer)["weight"] == (200 * np.bincount(ids, minlength=50)).tolist()


def test_counts_go_with_copies_and_sizes():
    layer = fe.Embedding(4, 2, rng=0).count_lookups()
    layer([1, 3, 3])
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other([0])
        assert counts_of(other) == {"weight": [1, 1, 0, 2]}
        assert not other._fast_path
    assert counts_of(layer) == {"weight": [0, 1, 0, 2]}
    layer.resize(6)
    layer([5])
    assert counts_of(layer) == {"weight": [0, 1, 0, 2, 0, 1]}
    layer.resize(2)
    layer([0])
    assert counts_of(layer) == {"weight": [1, 1]}
    pair = fe.TokenPositionEmbedding(3, 2, 2).count_lookups()
    pair([2, 1])
    pair.resize(3, table="wpe")
    assert counts_of(pair) == {"wte": [0, 1, 1], "wpe": [1, 1, 0]}


def test_states_carry_counts(tmp_path):
    layer = fe.TokenPositionEmbedding(3, 2, 2, rng=0).count_lookups()
    layer([2, 1])
    assert layer.state_dict().keys() == {"wte", "wpe"}
    path = tmp_path / "c"
    checkpoint.save(path, layer.state_dict(lookups=True))
    tensors, _ = checkpoint.load(path)
    assert tensors.keys() == {"wte", "wpe", "wte.lookups", "wpe.lookups"}
    other = fe.TokenPositionEmbedding(3, 2, 2)
    other.load_state_dict(tensors)
    other([2])
    assert counts_of(other) == {"wte": [0, 1, 2], "wpe": [2, 1]}
    assert counts_of(layer) == {"wte": [0, 1, 1], "wpe": [1, 1]}
    other.load_state_dict({"transformer.wte.weight": layer.wte, "wpe": layer.wpe, "transformer.wte.weight.lookups": [5, 0, 0]})
    assert counts_of(other) == {"wte": [5, 0, 0], "wpe": [2, 1]}
    for error, text, more in (
        (KeyError, "unexpected names .'x.lookups'", {"x.lookups": [0]}),
        (KeyError, "wte is there twice", {"wte.weight.lookups": [0, 0, 0]}),
        (ValueError, r"wte.lookups must have shape \(3,\)", {"wte.lookups": [1]}),
        (ValueError, "wpe.lookups must be from 0 to", {"wpe.lookups": [0, -1]}),
    ):
        with pytest.raises(error, match=text):
            other.load_state_dict(tensors | {"wte": np.zeros((3, 2))} | more)
    assert same_bits(other.wte, layer.wte)
    assert counts_of(other) == {"wte": [5, 0, 0], "wpe": [2, 1]}
