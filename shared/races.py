"""Races with other writers: whoever loses one starts again from the current state."""

import random
import time
from collections.abc import Callable

from shared.errors import Conflict

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0


def until_won[Result](attempt: Callable[[], Result]) -> Result:
    """What ``attempt`` returns: called again, after ever longer waits, for as long as it raises ``Conflict``.

    Each attempt reads the current state, so each lost race means that another writer got on.
    """
    losses = 0
    while True:
        try:
            return attempt()
        except Conflict:
            losses += 1
        back_off(losses)


def back_off(losses: int) -> None:
    """Wait after so many lost races in a row: up to 0.1 s, twice as long each time, up to 2 s, with full jitter."""
    time.sleep(random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (losses - 1))))  # noqa: S311 - jitter, not a secret
