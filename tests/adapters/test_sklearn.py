"""EmbeddingTransformer: pooled rows, and what scikit-learn asks of an estimator."""

import pickle

import numpy as np
import pytest

import fastembed as fe

pytest.importorskip("sklearn")

import sklearn_draws
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from fastembed.adapters.sklearn import EmbeddingTransformer

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((20, 4)).astype(np.float32)
DOCUMENTS = [[3, 4, 3], [], np.array([19], np.uint8), (0, 1, 2, 5)]
VECTORS = np.stack([TABLE[np.asarray(ids, int)].mean(0) if len(ids) else np.zeros(4) for ids in DOCUMENTS])
WORDS = {f"w{number}": number for number in range(20)}


def tokenize(text):
    return [WORDS[word] for word in text.split()]


class Encoding:
    def __init__(self, ids):
        self.ids = ids


class Encoder:
    """As a Tokenizer of tokenizers."""

    def encode(self, text):
        return Encoding(tokenize(text))


def test_random_parameters_are_those_of_loops():
    assert 5 < sum(sklearn_draws.check(1, case) for case in range(200)) < 50


@pytest.mark.parametrize("mode", ["mean", "sum", "sqrtn", "max"])
def test_documents_of_ids_are_bags(mode):
    ids, offsets = np.concatenate([np.asarray(ids, int) for ids in DOCUMENTS]), [0, 3, 3, 4]
    ours = EmbeddingTransformer(TABLE, mode=mode).fit().transform(DOCUMENTS)
    np.testing.assert_array_equal(ours, fe.embedding_bag(TABLE, ids, offsets, mode=mode))


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda x: np.array(x, object)])
def test_documents_come_in_any_iterable(kind):
    np.testing.assert_allclose(EmbeddingTransformer(TABLE).fit_transform(kind(DOCUMENTS)), VECTORS, rtol=1e-6)


@pytest.mark.parametrize("tokenizer", [tokenize, Encoder()])
def test_strings_go_through_the_tokenizer(tokenizer):
    texts = [" ".join(f"w{number}" for number in ids) for ids in DOCUMENTS]
    ours = EmbeddingTransformer(TABLE, tokenizer=tokenizer).fit_transform(texts)
    np.testing.assert_allclose(ours, VECTORS, rtol=1e-6)


def test_normalize_padding_and_bounds():
    lengths = np.linalg.norm(EmbeddingTransformer(TABLE, normalize=True).fit_transform(DOCUMENTS), axis=1)
    np.testing.assert_allclose(lengths, [1, 0, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(EmbeddingTransformer(TABLE, padding_idx=-1).fit_transform([[3, 19], [19]])[0], TABLE[3])
    np.testing.assert_array_equal(EmbeddingTransformer(TABLE, bounds="zero").fit_transform([[3, 20, -1]])[0], TABLE[3])


@pytest.mark.parametrize(
    ("options", "documents", "kind", "message"),
    [
        ({}, [[1], [2, 20]], IndexError, "token id 20 at position 1 of document 1 is out of range for a table of 20 rows"),
        ({}, [[], [-1]], IndexError, "token id -1 at position 0 of document 1"),
        ({}, [[2**63]], IndexError, "token id 9223372036854775808 of document 0"),
        ({}, [[1], [0.5]], TypeError, r"the token ids of document 1 must be integers, got float64: \[0.5\]"),
        ({}, [[True]], TypeError, "document 0 must be integers, got bool"),
        ({}, [[1], "w1"], TypeError, "document 1 is a string, 'w1', and there is no tokenizer"),
        ({}, [1, 2], ValueError, "document 0 must be a sequence of token ids, got 1"),
        ({"tokenizer": tokenize}, "w1 w2", ValueError, "X must be an iterable of documents, got one string: 'w1 w2'"),
        ({"tokenizer": 3}, [], TypeError, "tokenizer must be callable or have a method encode, got 3"),
        ({"tokenizer": "words"}, [], TypeError, "tokenizer must be callable or have a method encode, got 'words'"),
        ({"table": None}, [], ValueError, "table must be given"),
        ({"table": [1.0]}, [], ValueError, "table"),
        ({"mode": "median"}, [], ValueError, "mode"),
        ({"normalize": 1}, [], TypeError, "normalize must be True or False, got 1"),
        ({"padding_idx": 20}, [], ValueError, "padding_idx"),
        ({"bounds": "none"}, [], ValueError, "bounds"),
    ],
)
def test_errors_name_what_is_wrong(options, documents, kind, message):
    with pytest.raises(kind, match=message):
        EmbeddingTransformer(**{"table": TABLE} | options).fit_transform(documents)


def test_it_must_be_fitted():
    with pytest.raises(NotFittedError):
        EmbeddingTransformer(TABLE).transform(DOCUMENTS)


def test_clones_share_the_table_and_pickles_hold_it():
    fitted = EmbeddingTransformer(TABLE, tokenizer=tokenize, mode="max").fit()
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params() | {"table": copy.table}
    assert copy.table is TABLE
    assert not hasattr(copy, "table_")
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.transform(["w1 w2", ""]), fitted.transform(["w1 w2", ""]))


def test_a_pipeline_searches_its_parameters():
    labels = RNG.integers(0, 2, 40)
    documents = [RNG.integers(0, 20, RNG.integers(1, 9)) for _ in labels]
    for document, label in zip(documents, labels, strict=True):
        document[0] = label
    pipeline = make_pipeline(EmbeddingTransformer(np.eye(20)), LogisticRegression(C=100))
    search = GridSearchCV(pipeline, {"embeddingtransformer__mode": ["sum", "max"]}, cv=3).fit(documents, labels)
    assert search.best_score_ > 0.9


def test_names_of_features_and_frames():
    pandas = pytest.importorskip("pandas")
    transformer = EmbeddingTransformer(TABLE).fit()
    names = [f"embeddingtransformer{number}" for number in range(4)]
    assert list(transformer.get_feature_names_out()) == names
    frame = transformer.set_output(transform="pandas").transform(pandas.Series(DOCUMENTS, index=[7, 5, 3, 1]))
    assert list(frame.columns) == names
    assert list(frame.index) == [7, 5, 3, 1]
    np.testing.assert_allclose(frame.to_numpy(), VECTORS, rtol=1e-6)


def test_check_estimator():
    """It says itself that it makes no documents; the checks that need none are run one by one."""
    with pytest.warns(SkipTestWarning, match="Can't test estimator EmbeddingTransformer"):
        estimator_checks.check_estimator(EmbeddingTransformer(TABLE))
    for check in (
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ):
        check("EmbeddingTransformer", EmbeddingTransformer(TABLE))
