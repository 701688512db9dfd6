"""Faults of the model and of storage: what they cost, and whether they lose an image."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args, get_type_hints

from bench.site import LATENCY_MS, PATIENCE, Site, pictures
from local.faults import FaultKind, StorageFaults
from local.model.behaviour import Fault
from local.processes import wait_until

# A bare 400 is none: it refuses the one image that it is for, unless everything gets one (proof/refusals.py).
MODEL_FAULTS: tuple[str, ...] = tuple(kind for kind in get_args(get_type_hints(Fault)["kind"]) if kind != "400")
# The transient ones. A missing role is not: what storage refuses meanwhile ends on poison queues, and the next audit
# finds it.
STORAGE_FAULTS: tuple[FaultKind, ...] = tuple(
    kind for kind in get_args(FaultKind) if kind not in ("no_role", "firewall")
)


@dataclass(frozen=True)
class Faulty:
    """What became of the images that were uploaded during a fault. ``met`` counts the calls or requests that met it.

    ``twice`` counts the successful calls for an image that had already been embedded.
    """

    kind: str
    images: int
    met: int
    twice: int
    lost: int


def model_faults(site: Site, *, images: int, times: int, kinds: Sequence[str] = MODEL_FAULTS) -> list[Faulty]:
    """Let so many calls of each batch of images meet one of the model's faults, and then wait for all of them.

    A batch is uploaded as soon as the fault of the one before is over. A call that hangs does so for a minute, so only
    a few do: the others must get past them.
    """
    site.forget_calls()
    for kind in kinds:
        meeting = min(times, 3) if kind == "hang" else times
        # The image's text tells the model which batch it is of: a retry meets no other batch's fault.
        site.behave(latency_ms=LATENCY_MS, fault={"kind": kind, "times": meeting, "match": kind})
        site.upload(pictures(f"model {kind}/", images), text=kind)
        wait_until(partial(_all_met, site, kind, meeting), seconds=PATIENCE)
    site.behave()
    site.settle("model ", "images", "failures")
    if "content_filter" in kinds:
        # What the model has refused for good is retried only on request.
        site.audit(prefix="model content_filter/", retry_failures=["content_filtered"])
    site.settle("model ", "images")
    made = site.calls()
    return [
        Faulty(
            kind=kind,
            images=images,
            met=_met(made, kind),
            twice=_twice(call for call in made if call["text"] == kind),
            lost=len(site.lost(f"model {kind}/")),
        )
        for kind in kinds
    ]


def _met(calls: list[dict[str, Any]], kind: str) -> int:
    return sum(call.get("fault") == kind for call in calls)


def _all_met(site: Site, kind: str, times: int) -> bool:
    return _met(site.calls(), kind) >= times


def _twice(calls: Iterator[dict[str, Any]]) -> int:
    answered = Counter(call["sha256"] for call in calls if call["status"] == 200 and call.get("fault") is None)
    return answered.total() - len(answered)


def storage_faults(
    site: Site,
    faults: StorageFaults,
    *,
    images: int,
    share: float,
    times: float,
    kinds: Sequence[FaultKind] = STORAGE_FAULTS,
) -> list[Faulty]:
    """Let a share of the app's requests to storage meet a fault, at most so many, with one batch of images a kind."""
    site.behave(latency_ms=LATENCY_MS)
    site.forget_calls()
    met = {}
    for kind in kinds:
        prefix = f"storage {share} {kind}/"
        faults.begin(kind, share=share, times=times)
        site.upload(pictures(prefix, images), text=prefix)
        wait_until(partial(_over, site, faults, times, prefix), seconds=PATIENCE)
        met[kind] = faults.end()
        # These images must not meet the next fault.
        site.settle(prefix, "images", "failures")
    # The platform gives up what failed too often. An audit has it retried.
    site.audit(prefix=f"storage {share} ")
    site.settle(f"storage {share} ", "images")
    made = site.calls()
    return [
        Faulty(
            kind=kind,
            images=images,
            met=met[kind],
            twice=_twice(call for call in made if call["text"] == prefix),
            lost=len(site.lost(prefix)),
        )
        for kind in kinds
        for prefix in [f"storage {share} {kind}/"]
    ]


def _over(site: Site, faults: StorageFaults, times: float, prefix: str) -> bool:
    return faults.met >= times or site.at_rest(prefix, "images", "failures")
