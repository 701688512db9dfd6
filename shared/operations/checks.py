"""Checks that the deployed app can use everything it needs: identity, containers, queues and model.

Settings can be well-formed and still name something that does not exist, or that the identity may not access. So each
check sends a real request over the app's own connections.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from shared.errors import (
    IdentityError,
    ModelMisconfigured,
    ModelRefused,
    ModelUnavailable,
    SpaceCode,
    StorageError,
    WrongSpace,
)
from shared.identity import Identity
from shared.log import Report
from shared.model.client import HARMLESS_IMAGE, HARMLESS_TEXT, MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.deployment import Deployment
from shared.model.wire_format import Input, ModelOptions
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.queues import Queues
from shared.storage.rest import STORAGE_SCOPE
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore

# Anyone may call the health route, so results are cached, in seconds: for a short time while something is being fixed.
_HEALTHY_TTL, _UNHEALTHY_TTL = 300.0, 15.0
_MODEL_DEADLINE = 15.0
# A picture costs a thousand times as many tokens as a word, so a deployment that embedded one is asked for the next
# after an hour, in seconds.
_PICTURE_TTL = 3600.0
# Vectors of one word by models that share a space are near each other, those of other models have nothing in common.
_MIN_COSINE = 0.5
_NO_ANSWER = {None, 200, 504}
# For each way in which the model and the space do not fit: the setting, and what is public about it.
_WRONG_SPACE: dict[SpaceCode, tuple[str, str]] = {
    "other_model": (
        "FOUNDRY_MODEL",
        "The deployment's model is not the one whose vectors the app has stored, so nothing is embedded: deploy it"
        " under a name of its own and set FOUNDRY_MODEL to that name, or deploy the former model again.",
    ),
    "other_dimensions": (
        "EMBEDDING_DIMENSIONS",
        "The model's vectors are of another length than those that the app has stored, so nothing is embedded: set"
        " EMBEDDING_DIMENSIONS to the length that you want.",
    ),
    "unreadable_space": (
        "EMBEDDINGS_CONTAINER",
        "The blob space.json in the app's folder is not as the app writes it: restore it, or delete it.",
    ),
}
_PRIVATE_ENDPOINTS = "with private endpoints, that their DNS zones are linked to the app's network."


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, with which setting (``target``), and what to do.

    ``message`` is public: it holds no address and no value of a setting. ``detail`` is the service's own error message,
    for the log only.
    """

    code: str
    target: str
    message: str
    detail: str


class Checks:
    """Finds problems of the deployment. Safe to call from many threads, which take turns."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        space: Space,
        images: Images,
        records: RecordStore,
        queues: Queues,
        model: ModelClient,
        query_model: ModelClient,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._space = space
        self._images = images
        self._records = records
        self._queues = queues
        self._models = list(dict.fromkeys((model, query_model)))
        self._picture_valid_until: dict[Deployment, float] = {}
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._valid_until = 0.0
        self.dimensions: int | None = None
        """The length of the model's vectors, as it was last seen."""

    def recent(self) -> list[Problem]:
        """The problems found by the last run: at most five minutes old if there were none, else at most 15 seconds."""
        with self._lock:
            if time.monotonic() >= self._valid_until:
                self._problems = self._find(with_picture=True)
                self._valid_until = time.monotonic() + (_UNHEALTHY_TTL if self._problems else _HEALTHY_TTL)
            return self._problems

    def run_now(self) -> list[Problem]:
        """The problems right now, but for those that only pictures meet: what is uploaded tells of them.

        Costs three or four small storage requests, and each deployment of the model embeds one word.
        """
        with self._lock:
            return self._find(with_picture=False)

    def _find(self, *, with_picture: bool) -> list[Problem]:
        # In parallel: a check of something unreachable waits for its timeout.
        with ThreadPoolExecutor(max_workers=4) as threads:
            running = [threads.submit(check) for check in self._checks(with_picture)]
            problems = [problem for check in running for problem in check.result()]
        for problem in problems:
            message = f"{problem.message} {problem.detail}"
            Report(outcome="error", code=problem.code, message=message).log("misconfigured", logging.ERROR)
        return problems

    def _checks(self, with_picture: bool) -> list[Callable[[], list[Problem]]]:
        if problems := self._check_identity():
            # Without a token every other check would fail for the same reason.
            return [lambda: problems]
        model = partial(self._check_model, with_picture)
        return [self._check_images, self._check_embeddings, self._check_queue, model]

    def _check_identity(self) -> list[Problem]:
        if self._settings.storage_connection_string:
            return []
        try:
            self._identity.token(STORAGE_SCOPE)
        except IdentityError as error:
            message = (
                "There is no token for the managed identity: check that AZURE_CLIENT_ID is the client id of a"
                " user-assigned identity, and that this identity is assigned to the app."
            )
            return [Problem("no_identity", "AZURE_CLIENT_ID", message, str(error))]
        return []

    def _check_images(self) -> list[Problem]:
        return _check_storage(self._images.check, "IMAGES_CONTAINER", "container", "Storage Blob Data Reader")

    def _check_embeddings(self) -> list[Problem]:
        role = "Storage Blob Data Contributor"
        return _check_storage(self._records.check, "EMBEDDINGS_CONTAINER", "container", role)

    def _check_queue(self) -> list[Problem]:
        role = "Storage Queue Data Contributor"
        return _check_storage(self._queues.check, "ImageStorage__queueServiceUri", "queue", role)

    def _check_model(self, with_picture: bool) -> list[Problem]:
        deployments = [(model, deployment) for model in self._models for deployment in model.deployments]
        with ThreadPoolExecutor(len(deployments)) as threads:
            found = list(threads.map(lambda one: self._check_deployment(one[0], one[1], with_picture), deployments))
        problems = [one for one in found if isinstance(one, Problem)]
        answered = [
            (one, vector) for one, vector in zip(deployments, found, strict=True) if isinstance(vector, list) and vector
        ]
        for (model, deployment), vector in answered[1:]:
            if (cosine := _cosine(answered[0][1], vector)) < _MIN_COSINE:
                where = self._where(model, deployment)
                message = (
                    f"The vectors of the deployment{where} are not of the same model as the first's: deploy the same"
                    " model everywhere, and for queries one that shares its space."
                )
                detail = f"{deployment.model} at {deployment.endpoint}: cosine {cosine:.3f} for the same word."
                problems.append(Problem("other_model", self._setting(model), message, detail))
        return problems

    def _check_deployment(
        self, model: ModelClient, deployment: Deployment, with_picture: bool
    ) -> Problem | list[float]:
        """What is wrong with a deployment, or its vector of a word: empty if it is only busy or storage is away."""
        where = self._where(model, deployment)
        try:
            vector = self._ask(model, deployment, HARMLESS_TEXT)
            # Some formats have a route of its own for pictures.
            if with_picture and time.monotonic() >= self._picture_valid_until.get(deployment, 0.0):
                self._ask(model, deployment, HARMLESS_IMAGE)
                self._picture_valid_until[deployment] = time.monotonic() + _PICTURE_TTL
        except WrongSpace as error:
            setting, message = _WRONG_SPACE[error.code]
            return Problem(error.code, setting, message, str(error))
        except (ModelMisconfigured, ModelRefused) as error:
            # What refuses the word "health" refuses every input: a refusal is of the request, or of all requests.
            status = f" ({error.status})" if error.status else ""
            message = (
                f"The model{where} rejects every call{status}: check FOUNDRY_ENDPOINT, which must end in the path on"
                f" which the model answers, {' and '.join(self._model_settings())}, and that the app's identity has the"
                " role Cognitive Services User on the resource."
            )
            return Problem("model_misconfigured", self._setting(model), message, f"{deployment.endpoint}: {error}")
        except ModelUnavailable as error:
            # A model that is throttled or down will recover by itself: nothing is wrong with the deployment.
            if error.status in _NO_ANSWER:
                message = (
                    f"The model{where} does not answer: check FOUNDRY_ENDPOINT, and that the app's network lets the"
                    f" call out; {_PRIVATE_ENDPOINTS}"
                )
                return Problem("unreachable", "FOUNDRY_ENDPOINT", message, str(error))
            return []
        except StorageError:
            # Storage has a check of its own.
            return []
        self.dimensions = len(vector)
        return vector

    def _ask(self, model: ModelClient, deployment: Deployment, one: Input) -> list[float]:
        """The vector of something harmless, which is of the right kind; raises what ``embed`` and ``compare`` do."""
        options = ModelOptions(input_type="query", dimensions=self._settings.embedding_dimensions)
        schedule = Schedule.of(MAX_TOTAL_WAIT, _MODEL_DEADLINE, urgent=True)
        answer = model.embed(one, options, schedule, at=deployment)
        # Another model in the same space goes by a name of its own.
        self._space.compare(answer.model if model is self._models[0] else None, len(answer.embedding))
        return answer.embedding

    def _where(self, model: ModelClient, deployment: Deployment) -> str:
        """Which deployment it is, where there are several; no address, which is not public."""
        query = "" if model is self._models[0] else " for queries"
        if len(model.deployments) == 1:
            return query
        return f"{query} at endpoint {model.deployments.index(deployment) + 1} of {len(model.deployments)}"

    def _setting(self, model: ModelClient) -> str:
        return "FOUNDRY_ENDPOINT" if model is self._models[0] else "FOUNDRY_QUERY_MODEL"

    def _model_settings(self) -> list[str]:
        return ["FOUNDRY_MODEL", "FOUNDRY_QUERY_MODEL"][: len(self._models)]


def _cosine(one: list[float], other: list[float]) -> float:
    """Of two vectors of any length; 0 if they have not the same number of dimensions."""
    if len(one) != len(other):
        return 0.0
    return math.sumprod(one, other) / (math.hypot(*one) * math.hypot(*other))


def _check_storage(check: Callable[[], None], setting: str, thing: str, role: str) -> list[Problem]:
    """Run a check of a ``thing`` that ``setting`` names and ``role`` gives access to."""
    try:
        check()
    except StorageError as error:
        code, message = _diagnose(error, setting, thing, role)
        return [Problem(code, setting, message, str(error))]
    return []


def _diagnose(error: StorageError, setting: str, thing: str, role: str) -> tuple[str, str]:
    match error.status:
        case None:
            return "unreachable", f"Storage does not answer: check the ImageStorage__ settings; {_PRIVATE_ENDPOINTS}"
        case 404:
            return f"missing_{thing}", f"The {thing} does not exist: create it, or fix {setting}."
        case 403 if error.code == "AuthorizationFailure":
            message = (
                f"Storage denies the app access: check its firewall, and that the app's identity has the role {role}."
            )
            return "unreachable", message
        case 401 | 403:
            message = (
                f"The app's identity may not use this {thing}: give it the role {role} there. A new role takes up to"
                " ten minutes to take effect."
            )
            return "missing_role", message
        case status:
            return "storage_unavailable", f"Storage answered {status}: check whether Azure has an outage."
