"""What the kernels compute is what slow and plain arithmetic does."""

from functools import partial

import numpy as np
import pytest

from shared.search import scan


@pytest.mark.parametrize("dimensions", [1, 63, 64, 65, 1024])
def test_a_distance_is_the_sum_of_magnitudes_where_signs_differ(dimensions: int) -> None:
    rng = np.random.default_rng(dimensions)
    vectors = rng.standard_normal((5000, dimensions)).astype(np.float32)
    query = rng.standard_normal(dimensions).astype(np.float32)
    weights = scan.weights(query)
    magnitudes = np.minimum(np.rint(np.abs(query) * (2.2 / np.sqrt(np.mean(query.astype(np.float64) ** 2)))), 7)
    expected = ((vectors > 0) != (query > 0)) @ magnitudes
    bits = scan.signs(vectors)
    assert np.array_equal(scan.distances(bits, 0, 5000, weights), expected)
    assert np.array_equal(scan.distances(bits, 1234, 1300, weights), expected[1234:1300])
    assert len(scan.distances(bits, 7, 7, weights)) == 0
    assert weights.total == magnitudes.sum()


def test_the_estimate_is_about_the_product() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((2000, 1024)).astype(np.float32)
    query = rng.standard_normal(1024).astype(np.float32)
    weights = scan.weights(query)
    spread = float(np.square(vectors).sum() / np.abs(vectors).sum())
    found = scan.distances(scan.signs(vectors), 0, 2000, weights).astype(np.float32)
    estimates = spread * weights.step * (weights.total - 2 * found)
    # Signs of Gaussian numbers correlate with them by sqrt(2 / pi) = 0.80.
    assert np.corrcoef(estimates, vectors @ query)[0, 1] > 0.77


@pytest.mark.parametrize("count", [1, 5, 99, 100, 1000])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_nearest_are_the_smallest_within_the_mask_and_of_equal_ones_the_first(count: int, share: float) -> None:
    rng = np.random.default_rng(2)
    found = rng.integers(0, 20, 100).astype(np.uint16)
    mask = rng.random(100) < share
    expected = sorted((int(found[row]), int(row)) for row in np.flatnonzero(mask))[:count]
    assert scan.nearest(found.copy(), mask, count).tolist() == sorted(row for _, row in expected)
    everything = sorted(range(100), key=lambda row: (found[row], row))[:count]
    assert scan.nearest(found, None, count).tolist() == sorted(everything)


def test_every_float16_becomes_the_same_float32() -> None:
    every = np.arange(65536, dtype=np.uint16)
    finite = every[np.isfinite(every.view(np.float16))]
    assert np.array_equal(scan.floats(finite), finite.view(np.float16).astype(np.float32))


@pytest.mark.parametrize("dimensions", [1, 100, 1024])
def test_products_are_those_of_float32(dimensions: int) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((700, dimensions)).astype(np.float16)
    vectors[3] = 0
    vectors[4] = 6e-8
    query = rng.standard_normal(dimensions).astype(np.float32)
    rows = np.flatnonzero(rng.random(700) < 0.9)
    found = scan.dots(vectors.view(np.uint16), rows, query)
    assert np.allclose(found, vectors[rows].astype(np.float64) @ query, rtol=1e-5, atol=1e-5)
    assert len(scan.dots(vectors.view(np.uint16), rows[:0], query)) == 0


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert scan.in_parallel([partial(int, number) for number in range(50)]) == list(range(50))
    assert scan.in_parallel([]) == []
