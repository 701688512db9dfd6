"""The model: one client for all its deployments on Azure AI Foundry Models."""

import base64
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Protocol

from shared.errors import ModelError, ModelMisconfigured, ModelRefused, ModelTimedOut, ModelUnavailable, NotSent
from shared.identity import Identity
from shared.known_models import COHERE_PATH
from shared.log import Report
from shared.model import cohere, foundry
from shared.model.deployment import Deployment
from shared.model.rate_limiter import RateLimiters
from shared.model.wire_format import Input, ModelAnswer, ModelOptions, Stated, WireFormat, checked
from shared.settings import Settings

# A worker thread is held, and paid for, while a call waits: so retries within a call wait a few seconds in total.
MAX_ATTEMPTS = 4
MAX_TOTAL_WAIT = 5.0
# Doubled for each retry, the longest of these waits stay within MAX_TOTAL_WAIT in total.
_FIRST_BACKOFF = 0.3
_THROTTLED = 429

# What no model refuses for itself: a word, and a grey picture of 56 x 56 pixels.
HARMLESS_TEXT = Input(text="health")
HARMLESS_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAADgAAAA4CAAAAACN7WTCAAAAJUlEQVR42u3LMREAAAgEoNfkRreC5ww7NfnpiKIoiqIoiqIoniwCvwDw4JgfoQ"
    "AAAABJRU5ErkJggg=="
)
HARMLESS_IMAGE = Input(base64.b64decode(HARMLESS_PNG))


@dataclass(frozen=True)
class Schedule:
    """When a call may be sent, and by when it is over. Times are of ``time.monotonic``.

    A throttled model is waited for until ``wait_until``, over all attempts together; by ``deadline`` there is an answer
    or an error. ``urgent`` calls go first where calls wait for a place.
    """

    wait_until: float
    deadline: float
    urgent: bool = False

    @classmethod
    def of(cls, max_wait: float, max_time: float, *, urgent: bool = False) -> "Schedule":
        """A schedule that begins now: so many seconds of waiting for a throttled model, and so many in all."""
        now = time.monotonic()
        return cls(now + max_wait, now + max_time, urgent)


class Quota(Protocol):
    """What all processes of the app know of the quota: told of answers and refusals, and asked before a call."""

    def check(self) -> None:
        """Raise :class:`~shared.errors.Paused` if the app is to make no calls."""

    def answered(self, tokens: int) -> None:
        """The model answered a call that took so many tokens."""

    def refused(self, seconds: float) -> None:
        """The quota is spent, at all deployments, for so many seconds."""


class ModelClient:
    """A client for one model, made once a process and safe to call from many threads.

    The model may be deployed at several endpoints. A call goes to one that is open, the one with most room first, and
    after a failure to another. At most ``FOUNDRY_CONCURRENCY`` calls are in flight at each, fewer after a 429, and none
    while it is throttled. Each call raises :class:`~shared.errors.ModelRefused`,
    :class:`~shared.errors.ModelMisconfigured` or :class:`~shared.errors.ModelUnavailable` if it gets no embedding; by
    then a transient failure has been tried :data:`MAX_ATTEMPTS` times, within :data:`MAX_TOTAL_WAIT` seconds of
    waiting.
    """

    def __init__(
        self, settings: Settings, model: str, identity: Identity, tls: SSLContext, quota: Quota | None = None
    ) -> None:
        self.model = model
        self._quota = quota
        self._format: WireFormat = cohere if settings.foundry_endpoints[0].endswith(COHERE_PATH) else foundry
        self._rate_limiters = RateLimiters(len(settings.foundry_endpoints), settings.foundry_concurrency)
        self.deployments = [
            Deployment(endpoint, model, self._format, limiter, settings, identity, tls)
            for endpoint, limiter in zip(settings.foundry_endpoints, self._rate_limiters.all, strict=True)
        ]

    def embed(
        self, one: Input, options: ModelOptions, schedule: Schedule, *, at: Deployment | None = None
    ) -> ModelAnswer:
        """Embed a picture, a text, or both fused into one vector; ``at`` one deployment, whatever the others do."""
        [answer] = self._proved([one], options, schedule, at)
        if isinstance(answer, ModelError):
            raise answer
        return answer

    def embed_all(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule
    ) -> list[ModelAnswer | ModelError]:
        """Embed several inputs by one call, all with pictures or all without: an answer or an error for each, in order.

        No more than :meth:`max_inputs`. If the model refuses them, they are asked again in halves, until what it
        refuses is alone: one wrong input costs the others nothing but time.
        """
        try:
            return self._proved(inputs, options, schedule)
        except ModelRefused as error:
            return self._in_halves(inputs, options, schedule, error)
        except ModelError as error:
            return [error] * len(inputs)

    def max_inputs(self, *, has_image: bool) -> int:
        """How many inputs one call takes."""
        return self._format.MAX_IMAGES if has_image else self._format.MAX_TEXTS

    def stated(self) -> Stated | None:
        """What the service said last of its quota, that of all deployments together; ``None`` unless each said it."""
        stated = [deployment.stated for deployment in self.deployments if deployment.stated is not None]
        if len(stated) < len(self.deployments):
            return None
        left = [one.left for one in stated if one.left is not None]
        return Stated(
            calls=sum(one.calls for one in stated if one.calls) or None,
            tokens=sum(one.tokens for one in stated if one.tokens) or None,
            left=max(left) if left else None,
        )

    def check(self, schedule: Schedule) -> None:
        """Raise :class:`~shared.errors.NotSent` if a call would: then there is no point in preparing one."""
        if self._quota:
            self._quota.check()
        self._rate_limiters.check(schedule.wait_until, deadline=schedule.deadline)

    def close(self) -> None:
        """Close the connections."""
        for deployment in self.deployments:
            deployment.close()

    def _in_halves(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, refused: ModelRefused
    ) -> list[ModelAnswer | ModelError]:
        if len(inputs) == 1:
            return [refused]
        answers: list[ModelAnswer | ModelError] = []
        middle = len(inputs) // 2
        for half in (inputs[:middle], inputs[middle:]):
            try:
                # The model has just proved that it takes such requests.
                answers += self._each(half, options, schedule)
            except ModelRefused as error:
                answers += self._in_halves(half, options, schedule, error)
            except ModelError as error:
                answers += [error] * len(half)
        return answers

    def _proved(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, at: Deployment | None = None
    ) -> list[ModelAnswer | ModelError]:
        """The answers; a refusal is raised once it is proved that the inputs are at fault, and not all requests."""
        try:
            return self._each(inputs, options, schedule, at)
        except ModelRefused as error:
            if error.code == "refused_by_model" and not options.extras:
                self._prove(inputs[0], options, schedule, error, at)
            raise

    def _each(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, at: Deployment | None = None
    ) -> list[ModelAnswer | ModelError]:
        """The answers. What came with a broken vector among good ones is asked once more, by itself."""
        answers = self._with_retries(inputs, options, schedule, at)
        for index, answer in enumerate(answers):
            if isinstance(answer, ModelError):
                try:
                    [answers[index]] = self._with_retries(inputs[index : index + 1], options, schedule, at)
                except ModelError as error:
                    answers[index] = error
        return answers

    def _prove(
        self, one: Input, options: ModelOptions, schedule: Schedule, refused: ModelRefused, at: Deployment | None
    ) -> None:
        """Ask for something harmless, because what was refused may be our request and not the input in it.

        A refusal is recorded and never retried, so a gateway's or an API version's 400 must not pass for one of the
        image. Earlier answers prove nothing: what stands between may have changed since. Raises
        :class:`~shared.errors.ModelMisconfigured` if the harmless request is refused as well.
        """
        harmless = HARMLESS_TEXT if one.image is None else HARMLESS_IMAGE
        try:
            self._call([harmless], options, schedule, at)
        except ModelRefused:
            message = (
                f"{refused} It refuses a harmless input as well, so the request itself is at fault: check"
                " FOUNDRY_API_VERSION, FOUNDRY_ENDPOINT and what stands between the app and the model."
            )
            raise ModelMisconfigured(message, status=refused.status) from refused

    def _with_retries(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, at: Deployment | None = None
    ) -> list[ModelAnswer | ModelError]:
        """Call until there is an answer, a final error, or no time left to wait."""
        waited, waits = 0.0, 0
        for _ in range(1, MAX_ATTEMPTS + len(self.deployments) - 1):
            try:
                return self._call(inputs, options, schedule, at)
            except (ModelTimedOut, NotSent):
                # One may have been paid for; the other has waited as long as it may.
                raise
            except ModelMisconfigured as error:
                # Where the caller's own option is at fault, so it is everywhere.
                if at or error.fields or not self._rate_limiters.has_another():
                    raise
            except ModelUnavailable as error:
                if not at and self._rate_limiters.has_another():
                    continue
                waits += 1
                wait = _backoff(waits) if error.retry_after is None else error.retry_after
                if waited + wait > MAX_TOTAL_WAIT or time.monotonic() + wait > schedule.deadline:
                    raise
                time.sleep(wait)
                waited += wait
        return self._call(inputs, options, schedule, at)

    def _call(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, at: Deployment | None
    ) -> list[ModelAnswer | ModelError]:
        if self._quota and not at:
            # What asks one deployment is a health check: it asks for a word, paused or not.
            self._quota.check()
        try:
            answers = self._call_one(inputs, options, schedule, at)
        except ModelUnavailable as error:
            closed = self._rate_limiters.closed_for() if error.status == _THROTTLED else 0.0
            if self._quota and closed and not isinstance(error, NotSent):
                self._quota.refused(closed)
            raise
        if self._quota:
            self._quota.answered(sum(one.total_tokens or 0 for one in answers if isinstance(one, ModelAnswer)))
        return answers

    def _call_one(
        self, inputs: Sequence[Input], options: ModelOptions, schedule: Schedule, at: Deployment | None
    ) -> list[ModelAnswer | ModelError]:
        """Ask the deployment that has most room, or that one."""
        among = (at.rate_limiter,) if at else ()
        with self._rate_limiters.acquire(
            schedule.wait_until, deadline=schedule.deadline, urgent=schedule.urgent, among=among
        ) as limiter:
            deployment = next(one for one in self.deployments if one.rate_limiter is limiter)
            try:
                answers = deployment.call(inputs, options, schedule.deadline)
                return [_checked(answer, options, self.model, alone=len(inputs) == 1) for answer in answers]
            except ModelError as error:
                if not at and len(self.deployments) > 1:
                    _leave_alone(deployment, error)
                raise


def _leave_alone(deployment: Deployment, error: ModelError) -> None:
    """Let other deployments take the calls of one that is wrong or down. What its rate limiter knows, it knows."""
    match error:
        case ModelMisconfigured(fields=fields) if not fields:
            if deployment.rate_limiter.failed(for_good=True):
                message = f"{deployment.model} at {deployment.endpoint} is left out, others go on. {error}"
                Report(outcome="error", code="model_misconfigured", message=message).log("misconfigured", logging.ERROR)
        case ModelUnavailable(status=status) if not isinstance(error, ModelTimedOut | NotSent) and status != _THROTTLED:
            deployment.rate_limiter.failed()


def _checked(answer: ModelAnswer, options: ModelOptions, model: str, *, alone: bool) -> ModelAnswer | ModelError:
    """The answer, or what is wrong with its vector: raised where it is the only one of its call."""
    try:
        checked(answer.embedding, options, model)
    except ModelUnavailable as error:
        if alone:
            raise
        return error
    return answer


def _backoff(waits: int) -> float:
    """Exponential with full jitter, in seconds, so that many callers do not come back at the same moment."""
    return random.uniform(0, _FIRST_BACKOFF * 2**waits)  # noqa: S311 - jitter, not a secret
