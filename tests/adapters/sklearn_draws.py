"""Random parameters and documents of EmbeddingTransformer, against loops over NumPy rows.

python -m sklearn_draws --n 10000 --seed 0
"""

import argparse
import pickle

import numpy as np
from sklearn.base import clone

from fastembed.adapters.sklearn import EmbeddingTransformer

ID_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
MODES, BOUNDS = ("mean", "sum", "sqrtn", "max"), ("raise", "wrap", "clip", "zero")


def words_of(ids):
    return " ".join(map(str, ids))


def tokenize(text):
    return [int(word) for word in text.split()]


def draw_table(rng):
    """Eighths, whose sums are exact: those that are nearly zeros have no direction."""
    n_rows, n_cols = int(rng.integers(1, 30)), int(rng.integers(0, 20))
    table = (rng.integers(-20, 21, (n_rows, n_cols)) / 8).astype(rng.choice(["float32", "float64", "float16"]))
    return np.asfortranarray(table) if rng.random() < 0.2 else table


def draw_documents(rng, n_rows):
    """Documents of ids of any integer type, of which a few are out of range."""
    documents = []
    for _ in range(int(rng.integers(0, 8))):
        dtype = np.dtype(rng.choice(ID_DTYPES))
        ids = rng.integers(0, n_rows, int(rng.integers(0, 9)))
        if ids.size and rng.random() < 0.1:
            ids[rng.integers(ids.size)] = rng.choice([n_rows, 100] if dtype.kind == "u" else [n_rows, -1, 100])
        documents.append(ids.astype(dtype))
    return documents


def row_of(index, n_rows, bounds):
    """The row of an id, or None for none."""
    if bounds == "wrap":
        return index % n_rows
    if bounds == "clip":
        return min(max(index, 0), n_rows - 1)
    return index if 0 <= index < n_rows else None


def expected(table, documents, options):
    """The vectors in float64; or the document and position of the first id that is out of range."""
    n_rows, padding = len(table), options["padding_idx"]
    vectors = np.zeros((len(documents), table.shape[1]))
    for number, document in enumerate(documents):
        rows = [row_of(int(index), n_rows, options["bounds"]) for index in document]
        if options["bounds"] == "raise" and None in rows:
            return f"position {rows.index(None)} of document {number} is out of range for a table of {n_rows} rows"
        kept = [row for row in rows if row is not None and (padding is None or row != padding % n_rows)]
        if kept:
            values, mode = table[kept].astype(float), options["mode"]
            pooled = values.max(0) if mode == "max" else values.sum(0)
            vectors[number] = pooled / {"mean": len(kept), "sqrtn": np.sqrt(len(kept))}.get(mode, 1)
    return vectors


def outcome(transformer, documents):
    """The vectors, or the text of the error."""
    try:
        return transformer.transform(documents)
    except IndexError as error:
        return str(error)


def check(seed, case):
    """One draw; AssertionError if the two differ. Whether an exception was right."""
    rng = np.random.default_rng([seed, case])
    table = draw_table(rng)
    documents = draw_documents(rng, len(table))
    options = {
        "mode": str(rng.choice(MODES)),
        "normalize": bool(rng.random() < 0.3),
        "padding_idx": int(rng.integers(-len(table), len(table))) if rng.random() < 0.4 else None,
        "bounds": str(rng.choice(BOUNDS)),
    }
    is_text = rng.random() < 0.3
    transformer = EmbeddingTransformer(table).set_params(tokenizer=tokenize if is_text else None, **options)
    transformer = (clone(transformer) if rng.random() < 0.3 else transformer).fit()
    if rng.random() < 0.2:
        transformer = pickle.loads(pickle.dumps(transformer))
    answer = expected(table, documents, options)
    given = [words_of(document) for document in documents] if is_text else documents
    vectors = outcome(transformer, given)
    assert isinstance(vectors, str) == isinstance(answer, str), (case, options, vectors, answer)
    if isinstance(answer, str):
        assert answer in vectors, (case, options, vectors, answer)
        return True
    if options["normalize"]:
        lengths = np.sqrt((answer**2).sum(1, keepdims=True))
        answer = np.divide(answer, lengths, out=np.zeros_like(answer), where=lengths > 0)
    assert vectors.dtype == table.dtype
    tolerance = {"float64": 1e-13, "float32": 1e-5, "float16": 4e-3}[table.dtype.name]
    np.testing.assert_allclose(vectors.astype(float), answer, rtol=tolerance, atol=tolerance, err_msg=f"{case}: {options}")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    raised = sum(check(options.seed, case) for case in range(options.n))
    print(f"{options.n} draws of seed {options.seed}: no difference, {raised} of them in raising an exception")


if __name__ == "__main__":
    main()
