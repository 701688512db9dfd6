"""host.json: what it says about this host, with the real host's defaults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local.host.pumps import Rules


@dataclass(frozen=True)
class HostJson:
    """The settings of a host. Times in seconds."""

    route_prefix: str
    timeout: float
    blobs: Rules
    queues: Rules
    queues_encoding: Literal["base64", "none"]


def read_host_json(text: str, environment: Mapping[str, str], *, cores: int, lease: float) -> HostJson:
    """Read host.json; `lease` is how many seconds a message is hidden at a time (the real host's: 600).

    An app setting such as `AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism` overrides the file.
    """
    document = json.loads(text)
    _override(document, environment)
    extensions = document.get("extensions", {})
    blobs, queues = extensions.get("blobs", {}), extensions.get("queues", {})
    # The blob extension splits its one number between the queue listener's two: 16 is a batch of 9, refilled at 7.
    parallel = blobs.get("maxDegreeOfParallelism", 8 * cores)
    blob_batch = min(32, parallel // 2 + 1)
    batch = queues.get("batchSize", 16)
    encoding = queues.get("messageEncoding", "base64")
    if encoding not in ("base64", "none"):
        raise ValueError(f"host.json: messageEncoding is {encoding!r}: it must be base64 or none")
    return HostJson(
        route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
        timeout=_seconds(document.get("functionTimeout", "00:30:00")),
        blobs=Rules(
            batch=blob_batch,
            refill_at=parallel - blob_batch,
            attempts=blobs.get("poisonBlobThreshold", 5),
            lease=lease,
        ),
        queues=Rules(
            batch=batch,
            refill_at=queues.get("newBatchThreshold", batch // 2),
            attempts=queues.get("maxDequeueCount", 5),
            retry_after=_seconds(queues.get("visibilityTimeout", "00:00:00")),
            lease=lease,
        ),
        queues_encoding=encoding,
    )


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        first, *path = name.split("__")
        if first == "AzureFunctionsJobHost" and path:
            part = document
            for key in path[:-1]:
                part = part.setdefault(key, {})
            part[path[-1]] = int(value) if value.isdecimal() else value


def _seconds(span: str) -> float:
    """`hh:mm:ss`, the way host.json writes times; -1 is no limit."""
    if span == "-1":
        return float("inf")
    hours, minutes, seconds = span.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
