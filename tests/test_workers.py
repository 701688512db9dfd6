"""The tests are shared among processes by the names of their files, which must be there."""

import pytest

from tests.workers import APART, FIRST, TESTS, TOGETHER, processes, turn


@pytest.mark.parametrize("name", sorted({*TOGETHER, *APART, *FIRST}))
def test_every_name_is_that_of_tests(name: str) -> None:
    assert list(TESTS.glob(f"{name}*"))


def test_a_run_of_named_files_starts_no_other_process() -> None:
    assert processes([f"{__file__}::test_every_name_is_that_of_tests", __file__]) == 0
    assert processes([str(TESTS)]) == 4


def test_the_longest_go_first_and_what_shares_nothing_last() -> None:
    tests = [
        "tests/pictures/test_png.py::test_a",
        "tests/uploads/test_sync.py::test_b",
        "tests/reliability/test_load.py::test_c",
    ]
    assert sorted(tests, key=turn) == tests[::-1]
