"""A release that prepares pictures in another way, as a test brings it about."""

import pytest

from shared.pictures import limits
from tests.conftest import Cloud
from tests.drawing import picture


def outdated(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str = "a.png") -> None:
    """Embed an image, and then run a release that prepares pictures in another way."""
    cloud.upload(name, picture())
    assert cloud.sync().upload(name).outcome == "embedded"
    prepare_otherwise(monkeypatch)


def prepare_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every picture prepared in another way from now on."""
    for name in ("PREPARATION_AS_PNG", "PREPARATION_AS_IT_IS"):
        monkeypatch.setattr(limits, name, getattr(limits, name) + 10)
