"""Principal components, against the singular values of the rows."""

import numpy as np
import pytest

from fastembed.functional.components import principal_components


def test_they_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 6)) * [5, 3, 2, 1, 0.5, 0.1] + 7
    found = principal_components(rows, 3)
    centred = rows - rows.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.axes @ axes[:3].T), np.eye(3), atol=1e-9)
    np.testing.assert_allclose(found.shares, (values**2 / (values**2).sum())[:3])
    np.testing.assert_allclose(found.coordinates(rows), centred @ found.axes.T, atol=1e-9)
    assert (found.axes[np.arange(3), np.abs(found.axes).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_rows_of_any_size(factor):
    rows = np.random.default_rng(1).normal(size=(20, 4))
    np.testing.assert_allclose(principal_components(rows * factor).axes, principal_components(rows).axes, atol=1e-6)


def test_rows_that_are_not_finite_are_left_out():
    rows = np.random.default_rng(2).normal(size=(9, 3))
    odd = np.concatenate([rows, [[np.nan, 0, 0], [np.inf, 0, 0]]])
    found = principal_components(odd)
    np.testing.assert_array_equal(found.axes, principal_components(rows).axes)
    coordinates = found.coordinates(odd)
    assert np.isfinite(coordinates[:9]).all()
    assert np.isnan(coordinates[9:]).all()


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 1), (4, 0), (0, 0)])
def test_small_tables(shape):
    found = principal_components(np.ones(shape))
    assert found.axes.shape == (2, shape[1])
    assert (found.coordinates(np.ones(shape)) == 0).all()
    assert (found.shares == 0).all()
