"""What reaches storage, as a test counts it."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import urllib3

from shared.storage.names import space_of
from tests.conftest import Cloud


@pytest.fixture(autouse=True)
def _few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands for another process shares the connections of the first: each of its own costs 30 ms.

    It also shares what that knows of the space, which each would read for itself.
    """
    made: dict[tuple[str, int], tuple[Cloud, Any]] = {}

    def shared(name: str) -> Callable[..., Any]:
        make = getattr(Cloud, name)

        def get(cloud: Cloud, *arguments: Any) -> Any:
            key = (name, id(cloud))
            if key not in made:
                # With the cloud itself, so that no other gets its number.
                made[key] = (cloud, make(cloud, *arguments))
            return made[key][1]

        return get

    for name in ("rest", "model_clients", "space"):
        monkeypatch.setattr(Cloud, name, shared(name))


@pytest.fixture
def sent(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each request to the space's folder from now on: its verb, the path there, what the query says."""
    requests: list[str] = []
    request = urllib3.PoolManager.request
    folder = f"/{cloud.settings.embeddings_container}/{space_of(cloud.settings)}/"

    def noted(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        address = urlsplit(url)
        if folder in address.path:
            requests.append(f"{method} {unquote(address.path).partition(folder)[2]} {address.query}".strip())
        return request(pool, method, url, **options)

    monkeypatch.setattr(urllib3.PoolManager, "request", noted)
    return requests


@pytest.fixture
def _small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are long, and segments are not small, after a few images already."""
    monkeypatch.setattr("shared.search.journal.LARGE_LOG", 600)
    monkeypatch.setattr("shared.search.upkeep.compaction.LARGE_LOG", 600)
    monkeypatch.setattr("shared.search.upkeep.compaction._SMALL", 4)
