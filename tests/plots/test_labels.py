"""Places of labels: none overlaps another, a labelled point or the edge."""

import numpy as np
import pytest

from fastembed.plots.labels import _POINT, N_NEAR, place

BOUNDS = (10.0, 10.0, 610.0, 410.0)


def overlaps(one, other):
    return (one[2] > other[0]) and (one[0] < other[2]) and (one[3] > other[1]) and (one[1] < other[3])


@pytest.mark.parametrize(("n", "most"), [(27, 27), (40, 300), (1500, 150), (5, 0), (0, 5)])
def test_no_label_overlaps(n, most):
    rng = np.random.default_rng(n)
    points = rng.uniform([20, 20], [600, 400], size=(n, 2))
    points[n // 2 :] = rng.normal([300, 200], 20, size=(n - n // 2, 2))
    sizes = np.stack([rng.uniform(5, 80, n), np.full(n, 11.0)], axis=1)
    found = place(points, sizes, BOUNDS, most=most)
    placed = found.placed
    assert len(placed) <= most
    assert len(placed) >= min(n, most) // 2
    labelled = range(n) if n <= most else placed
    for k, i in enumerate(placed):
        left, bottom, right, top = box = found.boxes[i]
        assert left >= BOUNDS[0]
        assert bottom >= BOUNDS[1]
        assert right <= BOUNDS[2]
        assert top <= BOUNDS[3]
        np.testing.assert_allclose([right - left, top - bottom], sizes[i])
        assert not any(overlaps(box, found.boxes[j]) for j in placed[:k])
        assert not any(overlaps(box, [*(points[j] - _POINT), *(points[j] + _POINT)]) for j in labelled)


def test_one_label_is_beside_its_point_and_keeps_its_place():
    point, size = np.array([[300.0, 200.0]]), np.array([[20.0, 10.0]])
    assert place(point, size, BOUNDS, most=1).choices.tolist() == [0]
    for choice in range(N_NEAR):
        found = place(point, size, BOUNDS, most=1, preferred=np.array([choice]))
        assert found.choices.tolist() == [choice]
        centre = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
        assert 5 <= np.hypot(*(centre - point[0])) < 20


def test_where_there_is_no_room_there_is_no_label():
    points = np.full((500, 2), 300.0)
    found = place(points, np.full((500, 2), 12.0), BOUNDS, most=500)
    assert 1 <= len(found.placed) < 100
    assert found.placed[0] == 0
    assert place(points[:1], np.array([[700.0, 5.0]]), BOUNDS, most=1).choices.tolist() == [-1]
