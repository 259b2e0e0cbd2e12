"""gensim reads what is written here, and what it writes is read, to the bit."""

import random

import pytest
import vector_files

import fastembed as fe

gensim = pytest.importorskip("gensim.models")


def keyed(layer):
    made = gensim.KeyedVectors(layer.embedding_dim)
    made.add_vectors(list(layer.vocabulary), layer.weight)
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("is_binary", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_both_read_the_files_of_the_other(tmp_path, is_binary, seed):
    """gensim itself cannot read names with spaces."""
    rng = random.Random(seed)
    suffix = rng.choice((".bin", ".bin.gz") if is_binary else (".txt", ".txt.gz"))
    ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    layer = vector_files.layer(rng, 200, rng.randrange(2, 20))
    layer.save_vectors(ours)
    found = gensim.KeyedVectors.load_word2vec_format(ours, binary=is_binary)
    assert found.index_to_key == list(layer.vocabulary)
    assert found.vectors.tobytes() == layer.weight.tobytes()
    if not is_binary:
        layer = vector_files.layer(rng, 200, layer.embedding_dim, letters=vector_files.LETTERS + "   ")
    keyed(layer).save_word2vec_format(theirs, binary=is_binary)
    vector_files.assert_same(fe.load_vectors(theirs), layer)
    keyed(layer).save_word2vec_format(tmp_path / "glove.txt", write_header=False)
    vector_files.assert_same(fe.load_vectors(tmp_path / "glove.txt"), layer)
