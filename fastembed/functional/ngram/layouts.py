"""Numbers of published hashed n-gram tables: primes, multipliers, configs, metadata of GGUF files.

Sources: arXiv 2601.07372 and ``engram_demo_v1.py`` of deepseek-ai/Engram; ``config.json`` of
DeepSeek-V4.1 and of Qwen's models with PLE; the GGUF keys that llama.cpp and its converters write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _checks
from ..._messages import limit

if TYPE_CHECKING:
    from ..._typing import Array

_INT64_MAX = _checks.INT64_MAX
_MASK64 = 2**64 - 1
_MOST_CHARACTERS = 80  # of an architecture, which is part of names in messages
_LAYER_SEED = 10007  # what seeds of two layers that follow one another differ by
_GAMMA = 0x9E3779B97F4A7C15  # of SplitMix64
# Strong probable primes to these bases are primes below 2**64 (Sinclair, 2011).
_BASES = (2, 325, 9375, 28178, 450775, 9780504, 1795265022)


# ---- checks ----


def integers(name: str, value: Any, n_axes: int | None, low: int, high: int) -> Array:
    """Integers from low to high of so many axes (None: 0 or 1), exact, as an array of Python's."""
    array = _checks.integers(name.removesuffix("s"), value).astype(object)
    if array.ndim != n_axes and not (n_axes is None and array.ndim <= 1):
        raise ValueError(f"{name} must have {1 if n_axes is None else n_axes} axes, got shape {array.shape}")
    for place, number in np.ndenumerate(array):
        if not low <= number <= high:
            raise ValueError(f"{name} must be from {low} to {limit(high)}, got {_checks.shown(number)} at position {place}")
    return array


def token_map(value: Any) -> Array:
    """The number of each token, a new int64 array."""
    array = _checks.integers("token_map entrie", value)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"token_map must have 1 axis and a number for each token, got shape {array.shape}")
    outside = np.flatnonzero((array < 0) | (array > _INT64_MAX))
    if outside.size:
        k = int(outside[0])
        raise ValueError(f"token_map must be from 0 to {limit(_INT64_MAX)}, got {_checks.shown(int(array[k]))} at position {k}")
    return np.array(array, np.int64)


def token(name: str, value: Any, n_tokens: int) -> int:
    """A token of the vocabulary."""
    number = _checks.integer(name, value)
    if not 0 <= number < n_tokens:
        raise ValueError(f"{name} must be a token from 0 to {n_tokens - 1}, got {_checks.shown(number)}")
    return number


def positive(name: str, value: Any, least: int = 1) -> int:
    """A number of things, at least 1 or ``least``."""
    number = _checks.size(name, value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def heads(head_sizes: Any, offsets: Any, n: int) -> tuple[Array, tuple[int, ...], int]:
    """Size, reciprocal and offset of each head, uint64; the shape of both arguments; all rows."""
    sizes = integers("head_sizes", head_sizes, 2, 1, _INT64_MAX)
    if sizes.shape[0] != n - 1 or sizes.shape[1] == 0:
        raise ValueError(f"head_sizes must have shape ({n - 1}, heads) for {n} multipliers, got {sizes.shape}")
    if offsets is None:
        first = np.array([0, *accumulate(sizes.flat)][:-1], object).reshape(sizes.shape)
    else:
        first = integers("offsets", offsets, 2, 0, _INT64_MAX)
        if first.shape != sizes.shape:
            raise ValueError(f"offsets must have the shape of head_sizes, {sizes.shape}, got {first.shape}")
    n_rows = int(np.max(first + sizes))
    if n_rows > _INT64_MAX:
        raise ValueError(f"offsets and head_sizes must add up to at most {limit(_INT64_MAX)} rows, got {n_rows}")
    of_heads = [[size, (2**64 - 1) // size, offset] for size, offset in zip(sizes.flat, first.flat, strict=True)]
    result = np.array(of_heads, np.uint64)
    result.flags.writeable = False
    return result, sizes.shape, n_rows


def _needed(mapping: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of these names that there is."""
    for name in names:
        if mapping.get(name) is not None:
            return mapping[name]
    raise KeyError(f"there is no {' or '.join(names)}, which the hash needs")


def _index(layer: Any, layers: Any, name: str) -> int:
    """Which of the layers with a table it is."""
    numbers = integers(name, layers, 1, 0, _INT64_MAX).tolist()
    number = _checks.integer("layer", layer)
    if number not in numbers:
        known = _checks.first_few(list(map(_checks.shown, numbers)))
        raise ValueError(f"layer must be one of {known}, the {name}; got {_checks.shown(number)}")
    return int(numbers.index(number))


# ---- primes ----


def is_prime(n: int) -> bool:
    """Whether n, below 2**64, is a prime: Miller and Rabin's test, with bases that decide it."""
    if n < 3 or n % 2 == 0:
        return n == 2
    twos = ((n - 1) & (1 - n)).bit_length() - 1  # n - 1 = odd * 2**twos
    for base in _BASES:
        x = pow(base, (n - 1) >> twos, n)
        if x in (0, 1, n - 1):  # 0: the base is a multiple of n
            continue
        if all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def primes_above(start: int, taken: set[int]) -> Iterator[int]:
    """The primes above a number that are not taken, in order; each is taken then."""
    while True:
        start += 1
        if start not in taken and is_prime(start):
            taken.add(start)
            yield start


# ---- Engram, and DeepSeek-V4.1 ----


def engram_sizes(layer: Any, layers: Any, vocab_sizes: Any, n_heads: Any) -> list[list[int]]:
    """Of one layer, for each n the next primes above its vocab size less 1 not used before."""
    index, count = _index(layer, layers, "layers"), positive("n_heads", n_heads)
    starts = integers("vocab_sizes", vocab_sizes, 1, 1, _INT64_MAX).tolist()
    taken: set[int] = set()
    primes = {start: primes_above(start - 1, taken) for start in starts}
    sizes: list[list[int]] = []
    for _ in range(index + 1):
        sizes = [[next(primes[start]) for _ in range(count)] for start in starts]
    return sizes


def engram_multipliers(layer: int, n_numbers: int, n: int, seed: Any) -> list[int]:
    """n odd multipliers for tokens with numbers below n_numbers."""
    bound = max(1, _INT64_MAX // max(n_numbers, 1) // 2)
    start = _checks.size("seed", seed) + _LAYER_SEED * int(layer)
    return [2 * r + 1 for r in np.random.default_rng(start).integers(0, bound, n).tolist()]


def _of_engram_config(config: Mapping[str, Any], layer: Any, tokens: Any) -> dict[str, Any]:
    layers = _needed(config, "engram_layer_ids")
    n = positive("engram_max_ngram_size", _needed(config, "engram_max_ngram_size"), 2)
    n_numbers = _checks.size("engram_compressed_vocab_size", _needed(config, "engram_compressed_vocab_size"))
    start = positive("engram_vocab_size", _needed(config, "engram_vocab_size"))
    if tokens is None:
        raise ValueError("token_map must be given for a config with engram_compressed_vocab_size: it is not in the config")
    numbers = token_map(tokens)
    if numbers.max() >= n_numbers:
        raise ValueError(f"token_map must be below engram_compressed_vocab_size, {n_numbers}; its largest is {numbers.max()}")
    sizes = engram_sizes(layer, layers, [start] * (n - 1), _needed(config, "engram_n_heads"))
    n_rows = sum(map(sum, sizes))
    said = config.get("engram_num_embeddings")
    if said is not None and said[_index(layer, layers, "engram_layer_ids")] != n_rows:
        raise ValueError(f"engram_num_embeddings must be {n_rows} for layer {layer}, got {_checks.shown(said)}")
    return {
        "multipliers": engram_multipliers(layer, n_numbers, n, 0),
        "head_sizes": sizes,
        "token_map": numbers,
        "fill": _needed(config, "engram_pad_token_id"),
        "cut": config.get("image_token_id"),
        "cut_own": True,
    }


# ---- PLE ----


def _split_mix(x: int) -> int:
    """A step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = x + _GAMMA & _MASK64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK64
    return x ^ x >> 31


def _of_ple_config(config: Mapping[str, Any], layer: Any) -> dict[str, Any]:
    index = _index(layer, _needed(config, "ple_layer_ids"), "ple_layer_ids")
    n = positive("ngram_size", _needed(config, "ngram_size"), 2)
    count = positive("heads_per_ngram", _needed(config, "heads_per_ngram"))
    vocab_size = _checks.size("vocab_size", _needed(config, "vocab_size"))
    bound = max(1, _INT64_MAX // max(vocab_size, 1) // 2)
    seed = _checks.size("seed", _needed(config, "seed")) + _LAYER_SEED * index
    primes = primes_above(_checks.size("ngram_vocab_size_base", _needed(config, "ngram_vocab_size_base")) - 1, set())
    sizes: list[list[int]] = []
    for _ in range(index + 1):
        sizes = [[next(primes) for _ in range(count)] for _ in range(n - 1)]
    eos = _needed(config, "eos_token_id")
    if isinstance(eos, list | tuple):
        if not eos:
            raise ValueError("eos_token_id must be a token or at least one, got []")
        eos = eos[0]
    return {
        "multipliers": [2 * (_split_mix(seed + _GAMMA * (k + 1) & _MASK64) % bound) + 1 for k in range(n)],
        "head_sizes": sizes,
        "vocab_size": vocab_size,
        **ple_ends(eos),
    }


def ple_ends(eos: Any) -> dict[str, Any]:
    """The arguments that every hash of PLE has: look-backs end at the end of a text."""
    return {"fill": eos, "cut": eos, "unsigned": True}


# ---- configs and metadata ----


def of_config(config: Mapping[str, Any], layer: Any, tokens: Any) -> dict[str, Any]:
    """The arguments of the hash of a layer, from a config of either family."""
    merged = _checks.mapping("config", config)
    merged |= _checks.mapping("text_config", merged.get("text_config") or {})
    if "engram_layer_ids" in merged:
        return _of_engram_config(merged, layer, tokens)
    if "ple_layer_ids" in merged:
        if tokens is not None:
            raise ValueError("token_map is not for a config with ple_layer_ids, whose hashes take the tokens themselves")
        return _of_ple_config(merged, layer)
    raise KeyError("the config has neither engram_layer_ids nor ple_layer_ids")


def layers_of_gguf(metadata: Mapping[str, Any]) -> list[Any]:
    """The layers that have a table, as the metadata of a GGUF file say; [] if none has."""
    found = _tables_of(metadata, metadata["general.architecture"]) if "general.architecture" in metadata else None
    return [] if found is None else found[2].tolist()


def _tables_of(metadata: Mapping[str, Any], architecture: Any) -> tuple[str, str, Array] | None:
    """The family of the tables, what their keys begin with, and the layers that have one."""
    for family, key in (("engram", "layer_ids"), ("ple", "layers")):
        prefix = f"{architecture}.{family}."
        if prefix + key in metadata:
            return family, prefix, np.asarray(metadata[prefix + key]).reshape(-1)
    return None


def of_gguf(metadata: Mapping[str, Any], layer: Any, cut: Any) -> dict[str, Any]:
    """The arguments of the hash of a layer, from the metadata of a GGUF file."""
    metadata = _checks.mapping("metadata", metadata)
    architecture = _needed(metadata, "general.architecture")
    if not isinstance(architecture, str) or len(architecture) > _MOST_CHARACTERS:
        raise ValueError(
            f"general.architecture must be a name of at most {_MOST_CHARACTERS} characters, got {_checks.shown(architecture)}"
        )
    found = _tables_of(metadata, architecture)
    if found is None:
        raise KeyError(f"the metadata have neither {architecture}.engram.layer_ids nor {architecture}.ple.layers")
    family, prefix, layers = found
    arguments = _of_arrays(metadata, prefix, layers, layer)
    return arguments | (_engram_ends if family == "engram" else _ple_ends_of)(metadata, prefix, cut)


def _engram_ends(metadata: Mapping[str, Any], prefix: str, cut: Any) -> dict[str, Any]:
    pad = _needed(metadata, prefix + "pad_id", prefix + "pad_token_id")
    return {"token_map": _needed(metadata, prefix + "token_map"), "fill": pad, "cut": cut, "cut_own": True}


def _ple_ends_of(metadata: Mapping[str, Any], prefix: str, cut: Any) -> dict[str, Any]:
    if cut is not None:
        raise ValueError("cut is not for metadata of PLE, whose look-backs end at the end of a text")
    return ple_ends(_needed(metadata, prefix + "eos_token_id"))


def _of_arrays(metadata: Mapping[str, Any], prefix: str, layers: Array, layer: Any) -> dict[str, Any]:
    """Arrays that hold the numbers of all layers, one layer after the other."""
    if layer is None and len(layers) != 1:
        raise ValueError(f"layer must be given, one of {_checks.first_few(list(map(_checks.shown, layers.tolist())))}")
    index = 0 if layer is None else _index(layer, layers, prefix + "layers")

    def part(*names: str) -> Array:
        """What an array has for the layer."""
        numbers = np.asarray(_needed(metadata, *(prefix + name for name in names)), object).reshape(-1)
        if numbers.size == 0 or numbers.size % len(layers) != 0:
            raise ValueError(f"{prefix}{names[0]} must have as many numbers for each of {len(layers)} layers, got {numbers.size}")
        return numbers.reshape(len(layers), -1)[index]

    factors, sizes = part("layer_multipliers", "multipliers"), part("head_vocab_sizes", "primes")
    if len(factors) < 2 or len(sizes) % (len(factors) - 1) != 0:
        raise ValueError(f"{prefix}* must have as many heads for each n; got {len(factors)} multipliers and {len(sizes)} heads")
    shape = len(factors) - 1, -1
    offsets = None
    if any(prefix + name in metadata for name in ("head_offsets", "offsets")):
        offsets = part("head_offsets", "offsets")
        if len(offsets) != len(sizes):
            raise ValueError(f"{prefix}head_offsets must have a number for each of {len(sizes)} heads, got {len(offsets)}")
    return {
        "multipliers": factors.tolist(),
        "head_sizes": sizes.reshape(shape).tolist(),
        "offsets": None if offsets is None else offsets.reshape(shape).tolist(),
    }
