"""The one line that every invocation logs: JSON, so that a query over the logs can name its fields."""

import logging
from collections.abc import Mapping

import msgspec

_LOGGER = logging.getLogger("image_embeddings")


def log(event: str, fields: Mapping[str, object], level: int = logging.INFO) -> None:
    """Log ``event`` with its fields, those without a value left out. Never a vector, a token, a key or image data."""
    line = {"event": event, **{name: value for name, value in fields.items() if value not in (None, {}, [])}}
    _LOGGER.log(level, "%s", msgspec.json.encode(line).decode())


def quiet_libraries() -> None:
    """Keep the libraries' own lines out of the log: at INFO they name every request with its URL and headers."""
    for library in ("azure", "httpx", "msal"):
        logging.getLogger(library).setLevel(logging.WARNING)
