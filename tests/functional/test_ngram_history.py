"""next_history: the tokens that the next part of a text needs, of sequences of every form."""

import numpy as np

import fastembed as fe


def test_the_next_history_of_every_form_is_that_of_single_tokens():
    hash, rng = fe.NgramHash([3, 5, 9, 7], [[7], [5], [3]], vocab_size=20, fill=2), np.random.default_rng(0)
    for dtype in ("int64", "uint8", ">i4", "uint64"):
        for n_tokens in range(6):
            ids, history = rng.integers(0, 20, (2, n_tokens)).astype(dtype), rng.integers(0, 20, (2, 3))
            for past in (history, None):
                found = hash.next_history(ids, history=past)
                before = np.full((2, 3), 2) if past is None else past
                assert found.dtype == np.int64
                assert found.tolist() == np.hstack([before, ids.astype(int)])[:, -3:].tolist()
                lengths = hash.next_history(ids.reshape(-1), history=past, lengths=[n_tokens] * 2)
                assert found.tolist() == lengths.tolist()
