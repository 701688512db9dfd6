"""What all processes of the app know of the model's quota: one small blob, ``<folder>/quota.json``.

On Flex Consumption queries, uploads and the queue have processes of their own, which meet only at the quota. Whoever is
refused there writes down until when, so that uploads in other processes wait without a call, and the dispatcher gives
way. The same blob says which dispatcher has its turn, and with ``DAILY_TOKEN_LIMIT`` what the day has cost. All writes
are conditional on the version that was read.

Nothing here is needed to be right: what is lost of it, or cannot be read, costs a few refused calls.
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from shared.errors import NotSent, Paused, StorageError, UnreadableBlob, WrongSpace
from shared.races import until_won
from shared.settings import Settings
from shared.storage.blobs import IF_MISSING, JsonBlobs, if_match
from shared.storage.rest import BRIEF, conflict_if_changed
from shared.storage.space import Space

# What a process has read holds for so long.
_TTL = 1.0
# Calls that are in flight together are refused together.
_SAME_REFUSAL = 1.0
# A dispatcher that is so late has died, and anybody may start another.
LOST_AFTER = 60.0
_OUT_OF_REACH = (StorageError, WrongSpace)


class QuotaState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is in the blob. Times are seconds since 1970.

    The quota is spent until ``spent_until``, and was found spent ``refusals`` times. ``day`` has cost ``tokens``. The
    message of the dispatcher that may act next is number ``turn``; it is heard of by ``due``, and there is none if that
    is 0. ``idle`` says that it only waits for images whose time has not come, ``fresh_waits`` that fresh uploads wait.
    ``rate`` (calls a second) and ``patience`` (seconds) are those of :class:`~shared.uploads.waiting.pace.Pace`.
    """

    spent_until: float = 0.0
    refusals: int = 0
    day: str = ""
    tokens: int = 0
    turn: int = 0
    due: float = 0.0
    idle: bool = False
    fresh_waits: bool = False
    rate: float = 0.0
    patience: float = 0.0

    @property
    def is_dispatched(self) -> bool:
        """Whether a dispatcher is at work, or will be by itself."""
        return bool(self.due) and time.time() < self.due + LOST_AFTER


class Quota:
    """The app's knowledge of its quota. Safe to call from many threads.

    Only :meth:`change` raises ``StorageError``.
    """

    def __init__(self, settings: Settings, space: Space, blobs: JsonBlobs) -> None:
        self.daily_limit = settings.daily_token_limit
        self._space = space
        self._blobs = blobs
        self._state = QuotaState()
        self._read_at = -math.inf
        self._lock = threading.Lock()
        self._uncounted = 0
        self._counting = threading.Lock()

    def check(self) -> None:
        """Raise :class:`~shared.errors.Paused` if the day's tokens are used up, as far as is known."""
        if self.daily_limit is not None and (paused := self.paused(self.state())):
            raise paused

    def why_wait(self, *, behind_others: bool) -> NotSent | None:
        """Why a picture should not be embedded now: the quota is spent, or others wait already (``behind_others``)."""
        state = self.state()
        if paused := self.paused(state):
            return paused
        closed = state.spent_until - time.time()
        if closed > 0:
            message = f"The model's quota is spent for another {closed:.0f} seconds."
            return NotSent(message, status=429, retry_after=closed)
        if behind_others and state.fresh_waits and state.is_dispatched:
            return NotSent("The model's quota is spent: other uploads wait already.", status=429)
        return None

    def paused(self, state: QuotaState) -> Paused | None:
        """The error for a call that the daily limit forbids; ``None`` if it forbids none."""
        limit, used, now = self.daily_limit, self.tokens_today(state), _now()
        if limit is None or used < limit:
            return None
        tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        seconds = (tomorrow - now).total_seconds()
        if limit == 0:
            message = "Embedding is paused: DAILY_TOKEN_LIMIT is 0."
        else:
            message = (
                f"The tokens of the day are used up ({used:,}; DAILY_TOKEN_LIMIT allows {limit:,}): embedding goes on"
                f" at {tomorrow:%Y-%m-%dT%H:%MZ}."
            )
        return Paused(message, status=429, retry_after=seconds)

    def tokens_today(self, state: QuotaState) -> int:
        """What the day has cost so far, where there is a daily limit."""
        return state.tokens if state.day == _day(_now()) else 0

    def answered(self, tokens: int) -> None:
        """Count the tokens of an answer where there is a daily limit. Threads that come at once share a write."""
        if not self.daily_limit:
            return
        with self._lock:
            self._uncounted += tokens
        with self._counting:
            with self._lock:
                uncounted, self._uncounted = self._uncounted, 0
            if not uncounted:
                return
            try:
                self.change(lambda state: _counted(state, uncounted))
            except _OUT_OF_REACH:
                with self._lock:
                    self._uncounted += uncounted

    def refused(self, seconds: float) -> None:
        """Write down that the quota is spent for so long, unless that is known."""
        until = time.time() + seconds
        if until > self._state.spent_until + _SAME_REFUSAL:
            with suppress(*_OUT_OF_REACH):
                self.change(lambda state: _spent(state, until))

    def state(self) -> QuotaState:
        """What is known, at most a second old where storage answers."""
        with self._lock:
            if time.monotonic() - self._read_at < _TTL:
                return self._state
            # Others go on with what is known meanwhile.
            self._read_at = time.monotonic()
        with suppress(*_OUT_OF_REACH):
            # Whoever only looks claims no space.
            self._keep(self._read(self._space.find_folder())[0])
        return self._state

    def change(self, change: Callable[[QuotaState], QuotaState]) -> tuple[QuotaState, bool]:
        """Apply a change to what is there now; returns the result, and whether there was anything to write."""

        def attempt() -> tuple[QuotaState, bool]:
            folder = self._space.folder()
            before, version = self._read(folder)
            after = change(before)
            if after != before:
                with conflict_if_changed(_path(folder)):
                    self._blobs.write(_path(folder), after, condition=version, effort=BRIEF)
            return after, after != before

        after, written = until_won(attempt)
        self._keep(after)
        return after, written

    def _keep(self, state: QuotaState) -> None:
        with self._lock:
            self._state, self._read_at = state, time.monotonic()

    def _read(self, folder: str) -> tuple[QuotaState, dict[str, str]]:
        """The state, and the condition that it is still this version."""
        try:
            found = self._blobs.read_version(_path(folder), QuotaState, effort=BRIEF)
        except UnreadableBlob:
            return QuotaState(), {}
        return (QuotaState(), dict(IF_MISSING)) if found is None else (found[0], dict(if_match(found[1])))


class OtherQuota:
    """The same for a deployment with a quota of its own, whose refusals say nothing of that of the pictures."""

    def __init__(self, quota: Quota) -> None:
        self.check, self.answered = quota.check, quota.answered

    def refused(self, seconds: float) -> None:
        """Nothing to note."""


def _path(folder: str) -> str:
    return f"{folder}/quota.json"


def _counted(state: QuotaState, tokens: int) -> QuotaState:
    today = _day(_now())
    before = state.tokens if state.day == today else 0
    return msgspec.structs.replace(state, day=today, tokens=before + tokens)


def _spent(state: QuotaState, until: float) -> QuotaState:
    if until <= state.spent_until + _SAME_REFUSAL:
        return state
    return msgspec.structs.replace(state, spent_until=until, refusals=state.refusals + 1)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _day(now: datetime) -> str:
    return now.date().isoformat()
