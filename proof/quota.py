"""A quota that more images need than it has, and how much of it goes on answers."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from bench.site import LATENCY_MS, Site, pictures
from proof.simulation import Outcome


@dataclass(frozen=True)
class Quota:
    """How a quota was used, in the seconds from the first call to the last answer."""

    answered: int
    refused: int
    seconds: float
    allowed: int
    """The calls allowed in all windows that had begun by the last answer."""
    lost: int

    @property
    def used(self) -> float:
        """Answered calls over allowed calls, the last window counted in full."""
        return self.answered / self.allowed

    @property
    def refused_share(self) -> float:
        """Refused (429) calls over all calls."""
        return self.refused / (self.answered + self.refused)


def quota(
    site: Site, *, images: int, retry_after: Literal["seconds", "none"], calls: int = 100, window_s: float = 5
) -> Quota:
    """Upload all images at once where each deployment of the model takes so many calls a window.

    It says how long to wait after that, or does not.
    """
    prefix = f"quota {retry_after}/"
    throttle = {"calls": calls, "window_s": window_s, "retry_after": retry_after}
    site.behave(latency_ms=LATENCY_MS, throttle=throttle, mode="cheap")
    site.forget_calls()
    site.upload(pictures(prefix, images), text=prefix)
    site.settle(prefix, "images")
    by_deployment = [[call for call in made if call["text"] == prefix] for made in site.calls_by_deployment()]
    site.behave()
    made = [call for calls in by_deployment for call in calls]
    # The windows of each begin with its first call.
    starts = [min(call["time"] for call in calls) for calls in by_deployment]
    answered = [call["time"] for call in made if call["status"] == 200]
    last = max(answered)
    return Quota(
        answered=len(answered),
        refused=sum(call["status"] == 429 for call in made),
        seconds=last - min(starts),
        allowed=sum(calls * (int((last - start) // window_s) + 1) for start in starts),
        lost=len(site.lost(prefix)),
    )


@dataclass(frozen=True)
class Throttled:
    """What an hour cost in which the model answered 429 with this ``Retry-After`` to everything.

    ``longest`` is how long one invocation took at most, in simulated seconds. ``settled`` is the time from the end of
    that hour to the last record, in minutes.
    """

    retry_after: int
    images: int
    calls: int
    longest: float
    settled: float
    lost: int


# The app's clock stands still while it works (proof/app), and its host's own listeners are off.
STANDING = {
    "PROOF_SPEED": "0",
    "AzureWebJobs.embed_uploaded_image.Disabled": "true",
    "AzureWebJobs.embed_queued_image.Disabled": "true",
    # Of the one call that simulates all others.
    "AzureFunctionsJobHost__functionTimeout": "01:00:00",
}
# What Retry-After may say, whatever the quota becomes: nothing, most of a minute, a day.
WAITS = (0, 55, 86_400)
_HOUR = 3600.0


def throttled(site: Site, *, images: int, retry_after: int) -> Throttled:
    """Upload half of the images at once and the others within an hour of 429; then the model answers.

    The site's app is that of ``proof/app``, with the settings ``STANDING``.
    """
    prefix = f"throttled {retry_after}/"
    batch = pictures(prefix, images)
    site.upload(batch)
    site.behave(throttle={"calls": 0, "window_s": 1, "retry_after": retry_after})
    site.forget_calls()
    late = images // 2
    answer = site.post(
        "proof/simulate",
        container="images",
        uploads=[(max(0, number - images + late) * _HOUR / late, name) for number, name in enumerate(batch, start=1)],
        model_url=site.stack.foundry_url,
        mended_after=_HOUR,
        # Twice as long as an image is tried for.
        until=48 * _HOUR,
    )
    outcome = msgspec.json.decode(answer.raise_for_status().content, type=Outcome)
    return Throttled(
        retry_after=retry_after,
        images=images,
        calls=outcome.calls,
        longest=outcome.longest,
        settled=(outcome.settled - _HOUR) / 60,
        lost=len(site.lost(prefix)) + outcome.waiting,
    )
