"""A wrong setting, because of which the model refuses every image with 400 until somebody mends it."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal, get_args

from bench.site import LATENCY_MS, Site, picture, pictures, wait_for
from local.model.foundry import RETIRED_API_VERSIONS
from local.processes import wait_until
from proof.kills import kill_host, restarts_unprinted

Cause = Literal["api version", "gateway"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
# A host that is killed gives back soon what it had in hand.
LEASE = 2.0
_HEALTH_PATIENCE = 60.0


@dataclass(frozen=True)
class Refusals:
    """What became of the images that were there before a setting was wrong, and of those that came meanwhile."""

    cause: Cause
    images: int
    refused: int
    """Calls that the model refused."""
    failures: int
    """Failure records, written while the setting was wrong."""
    removed: int
    """Images from before whose records were gone at some time."""
    noticed: bool
    """Whether the health route said that something was wrong."""
    lost: int


def settings(file: Path) -> dict[str, str]:
    """The settings of the app of ``proof/app`` that :func:`refusals` needs: waits ten times shorter than deployed."""
    file.write_text("{}")
    return {"PROOF_SPEED": "10", "PROOF_SETTINGS": str(file)}


def refusals(site: Site, file: Path, *, cause: Cause, images: int) -> Refusals:
    """Embed images. Then make a setting wrong, upload as many more, overwrite half of the first and audit.

    In the end mend the setting and audit again.

    The setting that is wrong is FOUNDRY_API_VERSION, in the ``file`` of the app's settings, which restarts the app; or
    it is one of a gateway's, which restarts nothing and answers 400 without a reason.
    """
    prefix = f"refused {cause}/"
    before = pictures(f"{prefix}before ", images)
    _mend(site, file, cause)
    site.upload(before)
    site.settle(prefix, "images")

    _break(site, file, cause)
    site.forget_calls()
    changed = {name: picture(f"{name} changed") for name in list(before)[::2]}
    site.upload(pictures(f"{prefix}new ", images) | changed)
    wait_for("call for each image", lambda: _refused(site) >= images + len(changed))
    site.audit(prefix=prefix)
    # Health keeps what it found for a while.
    noticed = wait_until(lambda: _health(site) == HTTPStatus.SERVICE_UNAVAILABLE, seconds=_HEALTH_PATIENCE)
    refused, failures = _refused(site), len(site.stored("failures", prefix))
    removed = before.keys() - site.stored("images", prefix).keys()

    _mend(site, file, cause)
    site.audit(prefix=prefix)
    site.settle(prefix, "images", "failures")
    return Refusals(
        cause=cause,
        images=2 * images,
        refused=refused,
        failures=failures,
        removed=len(removed),
        noticed=noticed,
        lost=len(site.lost(prefix)),
    )


def _break(site: Site, file: Path, cause: Cause) -> None:
    if cause == "gateway":
        site.behave(latency_ms=LATENCY_MS, fault={"kind": "400"})
    else:
        _change(site, file, {"FOUNDRY_API_VERSION": RETIRED_API_VERSIONS[0]})


def _mend(site: Site, file: Path, cause: Cause) -> None:
    site.behave(latency_ms=LATENCY_MS)
    if cause == "api version":
        _change(site, file, {})


def _change(site: Site, file: Path, changed: dict[str, str]) -> None:
    """Change settings. That restarts the app, as it does on Azure."""
    if json.loads(file.read_text()) == changed:
        return
    file.write_text(json.dumps(changed))
    with restarts_unprinted():
        kill_host(site)
        wait_for("host that answers", site.host_answers)


def _refused(site: Site) -> int:
    return sum(call["status"] == HTTPStatus.BAD_REQUEST for call in site.calls())


def _health(site: Site) -> int:
    return site.http.get(f"{site.stack.functions_url}/api/health").status_code
