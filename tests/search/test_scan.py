"""What the kernels compute is what slow and plain arithmetic does."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
    magnitudes = np.minimum(np.rint(np.abs(query) * (1.2 / np.sqrt(np.mean(query.astype(np.float64) ** 2)))), 3)
    expected = ((vectors > 0) != (query > 0)) @ magnitudes
    bits = scan.signs(vectors)
    assert np.array_equal(scan.distances(bits, 0, 5000, weights), expected)
    assert np.array_equal(scan.distances(bits, 1234, 1300, weights), expected[1234:1300])
    assert len(scan.distances(bits, 7, 7, weights)) == 0
    assert weights.total == magnitudes.sum()
    rounded = np.sign(query) * magnitudes * weights.step
    assert np.allclose(scan.products(bits, 0, 5000, weights), np.where(vectors > 0, 1, -1) @ rounded, atol=1e-3)


@pytest.mark.parametrize(("bits", "correlation"), [(1, 0.77), (2, 0.91)])
def test_estimates_are_about_the_product_and_closer_with_a_second_bit(bits: int, correlation: float) -> None:
    rng = np.random.default_rng(1)
    widths = np.exp(rng.standard_normal(1024))
    vectors = np.multiply(rng.standard_normal((2000, 1024)), widths, dtype=np.float32)
    query = np.divide(rng.standard_normal(1024), widths, dtype=np.float32)
    spreads = np.abs(vectors).mean(axis=0, dtype=np.float32)
    weights = scan.weights(query * spreads)
    estimates = scan.products(scan.signs(vectors), 0, 2000, weights)
    if bits == 2:
        rests = np.ascontiguousarray(scan.rests(vectors, spreads).T)
        estimates = scan.FINE * (2 * estimates + scan.products(rests, 0, 2000, weights))
    products = vectors @ query
    # One bit of Gaussian numbers correlates with them by sqrt(2 / pi) = 0.80, two by 0.94; the rounded query by 0.97.
    assert np.corrcoef(estimates, products)[0, 1] > correlation - 0.02
    assert np.polyfit(products, estimates, 1)[0] == pytest.approx(correlation**2, abs=0.08)


def test_to_a_query_without_length_all_are_equally_near() -> None:
    weights = scan.weights(np.zeros(100, np.float32))
    bits = scan.signs(np.random.default_rng(1).standard_normal((9, 100)).astype(np.float32))
    assert scan.products(bits, 0, 9, weights).tolist() == [0] * 9


@pytest.mark.parametrize("count", [1, 5, 99, 100, 1000])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_largest_are_found_and_of_equal_ones_the_first(count: int, share: float) -> None:
    rng = np.random.default_rng(2)
    numbers = rng.integers(0, 20, 100).astype(np.float32)
    numbers[rng.random(100) >= share] = -np.inf
    expected = sorted((-number, row) for row, number in enumerate(numbers.tolist()) if number > -np.inf)[:count]
    assert scan.largest(numbers, count).tolist() == sorted(row for _, row in expected)


@pytest.mark.parametrize("dimensions", [1, 100, 1024])
def test_cosines_are_exact_to_the_last_digits_and_the_same_in_any_order(dimensions: int) -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((50, dimensions))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    vectors[7] = 0
    query = rng.standard_normal(dimensions)
    query /= math.hypot(*query)
    found = scan.cosines(vectors.view(np.uint16), query)
    for vector, cosine in zip(vectors.tolist(), found.tolist(), strict=True):
        length = math.hypot(*vector)
        assert cosine == pytest.approx(math.sumprod(vector, query.tolist()) / length if length else 0, abs=1e-15)
    for _ in range(5):
        order = rng.permutation(dimensions)
        again = scan.cosines(np.ascontiguousarray(vectors[:, order]).view(np.uint16), query[order])
        assert again.tolist() == found.tolist()


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


@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_task_is_done_once(count: int) -> None:
    done: list[int] = []
    with scan.on_a_core():
        scan.in_parallel([partial(done.append, number) for number in range(count)])
    assert sorted(done) == list(range(count))


def test_what_a_task_raises_is_raised_and_the_cores_are_free_again() -> None:
    for _ in range(3 * scan.cores()):
        with pytest.raises(ZeroDivisionError), scan.on_a_core():
            scan.in_parallel([partial(divmod, 1, 0)] * 4)
    with scan.on_a_core():
        pass


def test_no_more_searches_run_at_once_than_there_are_cores() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def search() -> None:
        nonlocal running, most
        with scan.on_a_core():
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.001)
            with lock:
                running -= 1

    with ThreadPoolExecutor(8) as threads:
        for one in [threads.submit(search) for _ in range(40)]:
            one.result()
    assert most <= scan.cores()
