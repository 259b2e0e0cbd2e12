"""Timing: turns rotate, batches are fresh, a warm-up is off the clock."""

import numpy as np
import pytest

from fastembed.bench import timing


def test_a_warm_up_comes_once_and_off_the_clock():
    seen = []
    ready = timing.ready_steps(seen.append, lambda: (np.zeros(1),), 10, 3, warmup=4)
    ready.answer(0)
    assert seen == [0, 1, 2]
    ready.seconds([5])
    assert seen[3:] == [6, 7, 8, 9, 5]
    ready.seconds([6, 7])
    assert seen[8:] == [6, 7]


@pytest.mark.parametrize(("n_contenders", "calls"), [(3, 1), (4, 2)])
def test_order_rotates_and_no_two_calls_share_a_batch(n_contenders, calls):
    seen = []

    def recording(which):
        return timing.Ready(lambda k: (), lambda batches: seen.append((which, batches)) or float(which))

    seconds = timing.measure(
        [recording(k) for k in range(n_contenders)], n_batches=10 * n_contenders * calls, runs=7, warmup=2, calls=calls
    )
    assert seconds == [[float(k)] * 7 for k in range(n_contenders)]
    dealt = [batch for _, batches in seen for batch in batches]
    assert len(set(dealt)) == len(dealt) == 9 * n_contenders * calls
    rounds = [[which for which, _ in seen[k : k + n_contenders]] for k in range(0, len(seen), n_contenders)]
    assert all(sorted(of_round) == list(range(n_contenders)) for of_round in rounds)
    assert [of_round[0] for of_round in rounds] == [k % n_contenders for k in range(9)]


def test_timed_calls_follow_an_untimed_one_on_a_batch_of_its_own():
    seen = []
    ready = timing.Ready(lambda k: (), lambda batches: seen.append(batches) or 1.0)
    seconds = timing.measure([ready, ready], n_batches=100, runs=3, warmup=1, calls=2, untimed_call=True)
    assert [len(times) for times in seconds] == [3, 3]
    assert [len(batches) for batches in seen] == [1, 2] * 8
    dealt = [batch for batches in seen for batch in batches]
    assert len(set(dealt)) == len(dealt)


def test_a_copy_of_any_number_of_threads_copies():
    for n_threads in (1, 3):
        ready = timing.copy_limit(16 * 1_001, n_threads)
        assert ready.answer(5)[0].tolist() == [1.0] * 1_001
