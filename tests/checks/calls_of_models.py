"""Calls of n-gram tables, packed tables, collections and indexes, for tests of their messages."""

import struct

import numpy as np

import fastembed as fe


def calls():
    """(a name, a public call, its arguments by name), all of them good."""
    table, ids = np.ones((6, 3)), [0, 2]
    sizes = {"multipliers": [3, 5], "head_sizes": [[2, 4]], "offsets": [[0, 2]], "token_map": [0, 1, 2], "fill": 0, "cut": [1]}
    yield "NgramHash", fe.NgramHash, {**sizes, "cut_own": False, "unsigned": False}
    yield "NgramHash of tokens", fe.NgramHash, {"multipliers": [3, 5], "head_sizes": [[2, 4]], "vocab_size": 9, "fill": 0}
    engram = {"layer": 1, "layers": [1, 2], "vocab_sizes": [10], "n_heads": 2, "pad_id": 0, "token_map": [0, 1], "seed": 0}
    yield "engram", fe.NgramHash.engram, {**engram, "cut": None}
    yield "ple", fe.NgramHash.ple, {"multipliers": [3, 5], "head_sizes": [[7]], "eos_token_id": 0, "vocab_size": 9}
    of_gguf = {"general.architecture": "x", "x.ple.layers": [1], "x.ple.eos_token_id": 0, "x.ple.head_vocab_sizes": [13]}
    of_gguf |= {"x.ple.head_offsets": [0], "x.ple.layer_multipliers": [5, 7]}
    yield "from_gguf", fe.NgramHash.from_gguf, {"metadata": of_gguf, "layer": 1, "cut": None}
    for key, value in of_gguf.items():
        yield key, lambda value, key=key: fe.NgramHash.from_gguf({**of_gguf, key: value}), {"value": value}
    config = {"ngram_size": 2, "heads_per_ngram": 2, "ngram_vocab_size_base": 9, "vocab_size": 9, "seed": 1, "eos_token_id": 0}
    config |= {"ple_layer_ids": [2]}
    yield "from_config", fe.NgramHash.from_config, {"config": config, "layer": 2, "token_map": None}
    for key, value in config.items():
        yield f"config {key}", lambda value, key=key: fe.NgramHash.from_config({**config, key: value}, 2), {"value": value}
    hash = fe.NgramHash(**sizes)
    tokens = {"ids": ids, "history": [1], "lengths": None, "cu_seqlens": None}
    yield "hash", hash, tokens
    yield "hash of sequences", hash, {"ids": ids, "lengths": [1, 1]}
    yield "next_history", hash.next_history, tokens
    yield "NgramEmbedding", fe.NgramEmbedding, {"hash": hash, "table": table, "freeze": False, "trainable_rows": [1]}
    yield "NgramEmbedding.random", fe.NgramEmbedding.random, {"hash": hash, "embedding_dim": 3, "dtype": "float32", "std": 1.0}
    layer = fe.NgramEmbedding(hash, table)
    yield "n-grams", layer, {**tokens, "out": None}
    yield "n-grams.backward", layer.backward, {"dout": np.ones((2, 6)), **tokens, "optimizer": None}
    yield "PackedNgramEmbedding", fe.PackedNgramEmbedding, {"hash": hash, "table": fe.QuantizedEmbedding.from_float(table)}

    rows = np.zeros((6, 34), np.uint8)
    yield "PackedTable", fe.PackedTable, {"rows": rows, "embedding_dim": 32, "format": "q8_0", "dtype": "float32"}
    scaled = {"rows": rows[:, :32], "embedding_dim": 32, "format": "float8_e4m3fn", "scales": rows[:, 32:33], "block_size": 32}
    yield "PackedTable of FP8", fe.PackedTable, {**scaled, "scale_format": "ue8m0"}
    packed = fe.PackedTable(rows, 32, format="q8_0")
    yield "packed", packed, {"ids": ids, "out": None, "bounds": "raise"}
    yield "packed.bag", packed.bag, {"ids": ids, "offsets": [0, 1], "mode": "sum", "per_sample_weights": [1.0, 2.0]}
    pair = {"token_ids": ids, "wpe": np.ones((6, 32), "f4"), "position_ids": ids, "start": 0, "out": None}
    yield "packed.gather_add", packed.gather_add, pair
    yield "packed.packed", lambda array: setattr(packed, "packed", array), {"array": packed.packed}
    yield "packed.scales", lambda array: setattr(packed, "scales", array), {"array": None}

    names = {"a": (6, 3), "b": table}
    features = {"one": "a", "two": "b"}
    options = {"mode": "sum", "bounds": "raise", "dtype": "float32", "std": 1.0, "rng": 0}
    yield "EmbeddingCollection", fe.EmbeddingCollection, {"tables": names, "features": features, **options}
    yield "table", lambda table: fe.EmbeddingCollection({"a": table}), {"table": (6, 3)}
    group = fe.EmbeddingCollection({"a": np.ones((6, 3)), "b": table}, features)
    flat = {"values": [0, 1], "per_sample_weights": [1.0, 2.0]}
    yield "collection", group, {**flat, "offsets": [0, 1, 2], "out": None}
    yield "collection of lengths", group, {**flat, "lengths": [1, 1]}
    yield "collection.backward", group.backward, {"dout": np.ones((1, 6)), **flat, "lengths": [1, 1], "optimizer": None}
    by_name = {"one": [0], "two": [1]}
    for name in by_name:
        yield f"values of {name}", lambda value, name=name: group({**by_name, name: value}), {"value": [0]}
        weights = {"one": [1.0], "two": [2.0]}
        call = lambda value, name=name, weights=weights: group(by_name, per_sample_weights={**weights, name: value})  # noqa: E731
        yield f"weights of {name}", call, {"value": [1.0]}
    yield "collection by feature", group, {"values": by_name, "per_sample_weights": {"one": [1.0], "two": [2.0]}}
    yield "collection.split", group.split, {"result": np.ones((1, 6))}
    yield "collection.load", group.load_state_dict, {"state": group.state_dict(), "strict": True}
    yield "of PyTorch", group.load_state_dict, {"state": {f"embedding_bags.{k}": v for k, v in group.state_dict().items()}}
    index = fe.Embedding(6, 3, rng=0)
    yield "build_index", index.build_index, {"table": "weight"}
    yield "nearest with an index", index.nearest, {"queries": [1], "k": 2, "metric": "dot", "index": index.build_index()}


def of_long_names(n=2000, length=300):
    """Calls of a collection of many features of long names, each of which raises."""
    names = [f"feature {k} {'x' * length}" for k in range(n)]
    group = fe.EmbeddingCollection({name: np.ones((2, 2)) for name in names})
    ids, dout = {name: [0] for name in names}, dict.fromkeys(names, np.ones((1, 2)))
    yield lambda: fe.EmbeddingCollection({name: np.ones((2, 2)) for name in names}, {"f": "nowhere"})
    yield lambda: fe.EmbeddingCollection({"x" * 10**6: [1, 2, 3]})
    yield lambda: fe.EmbeddingCollection({"x" * 10**6: (-1, 2)})
    yield lambda: group({"x": [1]})
    yield lambda: group(ids, per_sample_weights={})
    yield lambda: group(ids, per_sample_weights=dict.fromkeys(names))
    yield lambda: group(ids | {names[5]: [0, 0]})
    yield lambda: group(ids | {names[5]: [9]})
    yield lambda: group(ids | {names[5]: ([[0]], [0, 1])})
    yield lambda: group(ids | {names[5]: [[[0]]]})
    yield lambda: group(ids | {names[5]: ([0], [1, 0])})
    yield lambda: group([9] + [0] * (n - 1), lengths=[1] * n)
    yield lambda: group.backward({"x": 1}, ids)
    yield lambda: group.backward(dout | {names[5]: np.ones(3)}, ids)
    for state in ({}, {"x": 1}, dict.fromkeys(group.state_dict(), 1.5)):
        yield lambda state=state: group.load_state_dict(state)
    counts = group.state_dict() | {f"{names[5]}.weight.lookups": [1.5]}
    yield lambda: group.load_state_dict(counts)
    hash = {"layers": [1], "vocab_sizes": [10], "n_heads": 1, "pad_id": 0, "vocab_size": 9}
    yield lambda: fe.NgramHash.engram(1, **hash, **{"x" * 10**6: 1})
    yield lambda: fe.NgramHash.engram(9, **hash | {"layers": list(range(10, 10**4))})
    value = struct.unpack("<d", b"\xff" * 8)
    yield lambda: fe.NgramHash.from_gguf({"general.architecture": "x" * 10**6, "y": value})
