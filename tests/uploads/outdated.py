"""A release that prepares pictures in another way, as a test brings it about."""

import pytest

from shared.pictures.limits import PREPARATION
from tests.conftest import Cloud
from tests.drawing import picture


def outdated(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str = "a.png") -> None:
    """Embed an image, and then run a release that prepares pictures in another way."""
    cloud.upload(name, picture())
    assert cloud.sync().upload(name).outcome == "embedded"
    for module in ("audit.reconcile", "uploads.embed", "uploads.sync"):
        monkeypatch.setattr(f"shared.{module}.PREPARATION", PREPARATION + 1)
