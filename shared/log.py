"""The line that every invocation logs: JSON, so that log queries can use its fields by name."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field

import msgspec

# What a line, a record or an answer quotes of a text that somebody else wrote.
MESSAGE_LIMIT = 1000
_LOGGER = logging.getLogger("image_embeddings")
# What every line of a request has, whoever logs it.
_REQUEST: ContextVar[Mapping[str, str]] = ContextVar("_REQUEST")


@dataclass(kw_only=True)
class Report:
    """The result of an invocation, filled in while it runs. ``ms`` holds milliseconds by step.

    The log has the first :data:`MESSAGE_LIMIT` characters of ``message``.
    """

    outcome: str
    code: str | None = None
    message: str | None = None
    total_tokens: int | None = None
    ms: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def step(self, step: str) -> Iterator[None]:
        """Add the duration of the block to ``step``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[step] = self.ms.get(step, 0) + round((time.perf_counter() - start) * 1000)

    def log(self, event: str, level: int = logging.INFO) -> None:
        """Log ``event`` with every field that has a value. No field may hold a vector, token, key or image data."""
        fields = {name: value for name, value in asdict(self).items() if value not in (None, {}, [])}
        if self.message is not None:
            fields["message"] = self.message[:MESSAGE_LIMIT]
        line = {"event": event, **fields, **_REQUEST.get({})}
        _LOGGER.log(level, "%s", msgspec.json.encode(line).decode())


@contextmanager
def of_request(ids: Mapping[str, str]) -> Iterator[None]:
    """Put these fields into every line that is logged in the block, in this thread."""
    before = _REQUEST.set(ids)
    try:
        yield
    finally:
        _REQUEST.reset(before)


def quiet_libraries() -> None:
    """Keep the libraries' own lines out of the log: at INFO they log every request with its URL and headers."""
    for library in ("azure", "httpx", "msal"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # urllib3 warns of each failed attempt, with the URL. If the last one fails, the app reports it as an error.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
