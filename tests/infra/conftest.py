"""What the tests of the deployment share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.hooks import SHELLS, Hooks, running


@pytest.fixture(params=SHELLS)
def hooks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hooks]:
    """The hooks of azd with fakes around them, under one shell after the other."""
    with running(tmp_path, request.param) as found:
        yield found
