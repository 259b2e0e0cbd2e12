"""Row-sparse gradients drawn beside the reference's, and compared with them."""

import numpy as np
from common import lists, same_bits

import fastembed as fe
from fastembed import reference


def pair_of(rng, dtype, n_rows=9, width=21):
    """A gradient of a layer, and the reference's."""
    layer = fe.Embedding(n_rows, width, dtype=dtype, rng=0)
    like = reference.Embedding.from_pretrained(layer.weight.tolist(), dtype=dtype)
    for _ in range(3):  # accumulated
        ids = rng.integers(0, n_rows, 4)
        dout = (rng.standard_normal((4, width)) * 10.0 ** rng.integers(-9, 3, (4, 1))).astype(dtype)
        layer.backward(dout, ids)
        like.backward(*lists(dout, ids))
    return layer.grads()["weight"], like.grads()["weight"]


def assert_equal(grad, like, dtype):
    assert grad.ids.tolist() == list(like.ids)
    assert same_bits(grad.rows, np.array(like.rows, dtype).reshape(grad.rows.shape))
