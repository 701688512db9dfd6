"""The one line that every invocation logs: JSON, so that a query over the logs can name its fields."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import msgspec

_LOGGER = logging.getLogger("image_embeddings")


@dataclass(kw_only=True)
class Report:
    """What an invocation came to, filled in as it goes. ``ms`` holds milliseconds by step."""

    outcome: str
    code: str | None = None
    message: str | None = None
    total_tokens: int | None = None
    ms: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def step(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to ``step``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[step] = self.ms.get(step, 0) + round((time.perf_counter() - start) * 1000)

    def log(self, event: str, level: int = logging.INFO) -> None:
        """Log ``event`` with every field that has a value. No field may hold a vector, token, key or image data."""
        fields = {name: value for name, value in asdict(self).items() if value not in (None, {}, [])}
        _LOGGER.log(level, "%s", msgspec.json.encode({"event": event, **fields}).decode())


def quiet_libraries() -> None:
    """Keep the libraries' own lines out of the log: at INFO they name every request with its URL and headers."""
    for library in ("azure", "httpx", "msal"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # It warns of each try that failed, with the URL; the last one's failure is an error of ours.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
