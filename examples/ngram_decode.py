"""Decoding with n-gram tables on disk: the rows of all layers are read while the model computes.

python examples/ngram_decode.py [--tokens 60] [--layers 4] [--ms 5]

The rows of a token depend on tokens alone, so those of all layers are known as soon as the token
is. A decoder that looks them up when a layer needs them waits for the disk in each layer; one that
asks for them first finds them in memory. The model here is a product of matrices that takes a given
time. Both ways must give the same numbers.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import fastembed as fe

N_COLUMNS, VOCAB = 64, 256
HEADS = 8


def write_tables(folder, n_layers, n_rows, rng):
    """A table of FP8 rows for each layer: elements, then a scale for each 32 of them."""
    paths = []
    for layer in range(n_layers):
        rows = rng.integers(0, 0x70, (n_rows, N_COLUMNS + N_COLUMNS // 32), np.uint8)  # no NaN
        rows[:, N_COLUMNS:] = rng.integers(115, 125, (n_rows, N_COLUMNS // 32))
        paths.append(Path(folder) / f"layer{layer}.safetensors")
        fe.checkpoint.save(paths[-1], {"rows": rows})
    return paths


def open_layers(paths, n_rows):
    """The layers, each with a hash of its own: three tokens, eight heads."""
    layers = []
    for k, path in enumerate(paths):
        table = fe.DiskTable(path, embedding_dim=N_COLUMNS, format="float8_e4m3fn", cache_bytes=8 << 20)
        sizes = [[n_rows // (2 * HEADS)] * HEADS] * 2
        hash = fe.NgramHash([2 * k + 3, 40503 + 2 * k, 9176263 + 2 * k], sizes, vocab_size=VOCAB, fill=0)
        layers.append(fe.PackedNgramEmbedding(hash, table))
    return layers


class Model:
    """What stands for a model: a layer takes so many milliseconds, then adds what is recalled."""

    def __init__(self, width, ms, seed=0):
        rng = np.random.default_rng(seed)
        self.weights = rng.standard_normal((width, VOCAB)).astype("f4") / np.sqrt(width)
        self.ms, self.noise = ms, rng

    def compute(self, state):
        end = time.perf_counter() + self.ms / 1000
        result = np.tanh(0.5 * state)
        while time.perf_counter() < end:
            np.tanh(self.weights)
        return result

    def recall(self, state, rows):
        return state + rows @ self.weights

    def next_token(self, state):
        return int(np.argmax(state / np.abs(state).max() + self.noise.standard_normal(VOCAB)))


def decode(layers, model, prompt, n_tokens, ahead):
    """The tokens after a prompt, and the seconds that look-ups took for each of them."""
    tokens, history, waited = list(prompt), np.array(prompt[-3:-1]), []
    for _ in range(n_tokens):
        last, state, seconds = tokens[-1:], np.zeros(VOCAB, "f4"), 0.0
        if ahead:
            for layer in layers:
                layer.prefetch(last, history)
        for layer in layers:
            state = model.compute(state)
            began = time.perf_counter()
            rows = layer(last, history)[0]
            seconds += time.perf_counter() - began
            state = model.recall(state, rows)
        history = layers[0].hash.next_history(last, history=history)
        tokens.append(model.next_token(state))
        waited.append(seconds)
    return tokens, waited


def compare(n_tokens=60, n_layers=4, ms=5.0, n_rows=400_000, seed=0):
    """(tokens, median seconds of look-ups a token) without reading ahead, and with it."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_tables(folder, n_layers, n_rows, np.random.default_rng(seed))
        for ahead in (False, True):
            layers = open_layers(paths, n_rows)
            model = Model(layers[0].hash.width * N_COLUMNS, ms, seed)
            tokens, waited = decode(layers, model, [10, 20, 30], n_tokens, ahead)
            found.append((tokens, float(np.median(waited))))
            for layer in layers:
                layer.table.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--ms", type=float, default=5.0, help="what a layer of the model takes")
    options = parser.parse_args()
    (tokens, without), (same, ahead) = compare(options.tokens, options.layers, options.ms)
    assert tokens == same
    print(f"look-ups of a token, {options.layers} layers of {2 * HEADS} rows, medians:")
    print(f"  when they are needed   {without * 1e6:7.0f} us")
    print(f"  read ahead             {ahead * 1e6:7.0f} us")


if __name__ == "__main__":
    main()
