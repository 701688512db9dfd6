"""A quota that more images need than it has, and how much of it goes on answers."""

from dataclasses import dataclass
from typing import Literal

from bench.site import LATENCY_MS, Site, pictures


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
    """Upload all images at once where the model takes so many calls a window, and says how long to wait or does not."""
    prefix = f"quota {retry_after}/"
    throttle = {"calls": calls, "window_s": window_s, "retry_after": retry_after}
    site.behave(latency_ms=LATENCY_MS, throttle=throttle, mode="cheap")
    site.forget_calls()
    site.upload(pictures(prefix, images), text=prefix)
    site.settle(prefix, "images")
    made = [call for call in site.calls() if call["text"] == prefix]
    site.behave()
    start = min(call["time"] for call in made)
    answered = sorted(call["time"] - start for call in made if call["status"] == 200)
    seconds = answered[-1]
    return Quota(
        answered=len(answered),
        refused=sum(call["status"] == 429 for call in made),
        seconds=seconds,
        allowed=calls * (int(seconds // window_s) + 1),
        lost=len(site.lost(prefix)),
    )
