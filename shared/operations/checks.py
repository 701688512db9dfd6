"""Checks that the deployed app can use everything it needs: identity, containers, queues and model.

Settings can be well-formed and still name something that does not exist, or that the identity may not access. So each
check sends a real request over the app's own connections.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import ModelOptions
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.queues import Queues
from shared.storage.rest import STORAGE_SCOPE
from shared.storage.space import Space
from shared.uploads.record_store import RecordStore

# Anyone may call the health route, so results are cached, in seconds: for a short time while something is being fixed.
_HEALTHY_TTL, _UNHEALTHY_TTL = 300.0, 15.0
_MODEL_DEADLINE = 15.0
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
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._space = space
        self._images = images
        self._records = records
        self._queues = queues
        self._model = model
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._valid_until = 0.0

    def recent(self) -> list[Problem]:
        """The problems found by the last run: at most five minutes old if there were none, else at most 15 seconds."""
        with self._lock:
            if time.monotonic() < self._valid_until:
                return self._problems
            return self._run()

    def run_now(self) -> list[Problem]:
        """The problems right now. Costs three or four small storage requests and the embedding of one word."""
        with self._lock:
            return self._run()

    def _run(self) -> list[Problem]:
        # In parallel: a check of something unreachable waits for its timeout.
        with ThreadPoolExecutor(max_workers=4) as threads:
            running = [threads.submit(check) for check in self._checks()]
            self._problems = [problem for check in running if (problem := check.result())]
        self._valid_until = time.monotonic() + (_UNHEALTHY_TTL if self._problems else _HEALTHY_TTL)
        for problem in self._problems:
            message = f"{problem.message} {problem.detail}"
            Report(outcome="error", code=problem.code, message=message).log("misconfigured", logging.ERROR)
        return self._problems

    def _checks(self) -> list[Callable[[], Problem | None]]:
        if problem := self._check_identity():
            # Without a token every other check would fail for the same reason.
            return [lambda: problem]
        return [self._check_images, self._check_embeddings, self._check_queue, self._check_model]

    def _check_identity(self) -> Problem | None:
        if self._settings.storage_connection_string:
            return None
        try:
            self._identity.token(STORAGE_SCOPE)
        except IdentityError as error:
            message = (
                "There is no token for the managed identity: check that AZURE_CLIENT_ID is the client id of a"
                " user-assigned identity, and that this identity is assigned to the app."
            )
            return Problem("no_identity", "AZURE_CLIENT_ID", message, str(error))
        return None

    def _check_images(self) -> Problem | None:
        return _check_storage(self._images.check, "IMAGES_CONTAINER", "container", "Storage Blob Data Reader")

    def _check_embeddings(self) -> Problem | None:
        role = "Storage Blob Data Contributor"
        return _check_storage(self._records.check, "EMBEDDINGS_CONTAINER", "container", role)

    def _check_queue(self) -> Problem | None:
        role = "Storage Queue Data Contributor"
        return _check_storage(self._queues.check, "ImageStorage__queueServiceUri", "queue", role)

    def _check_model(self) -> Problem | None:
        options = ModelOptions(input_type="query", dimensions=self._settings.embedding_dimensions)
        try:
            schedule = Schedule.of(MAX_TOTAL_WAIT, _MODEL_DEADLINE, urgent=True)
            answer = self._model.embed_text("health", options, schedule)
            self._space.compare(answer.model, len(answer.embedding))
        except WrongSpace as error:
            setting, message = _WRONG_SPACE[error.code]
            return Problem(error.code, setting, message, str(error))
        except (ModelMisconfigured, ModelRefused) as error:
            # What refuses the word "health" refuses every input: a refusal is of the request, or of all requests.
            status = f" ({error.status})" if error.status else ""
            message = (
                f"The model rejects every call{status}: check FOUNDRY_ENDPOINT (it ends in /models), FOUNDRY_MODEL, and"
                " that the app's identity has the role Cognitive Services User on the resource."
            )
            return Problem("model_misconfigured", "FOUNDRY_ENDPOINT", message, str(error))
        except ModelUnavailable as error:
            # A model that is throttled or down will recover by itself: nothing is wrong with the deployment.
            if error.status in _NO_ANSWER:
                message = (
                    "The model does not answer: check FOUNDRY_ENDPOINT, and that the app's network lets the call out;"
                    f" {_PRIVATE_ENDPOINTS}"
                )
                return Problem("unreachable", "FOUNDRY_ENDPOINT", message, str(error))
        except StorageError:
            # Storage has a check of its own.
            pass
        return None


def _check_storage(check: Callable[[], None], setting: str, thing: str, role: str) -> Problem | None:
    """Run a check of a ``thing`` that ``setting`` names and ``role`` gives access to."""
    try:
        check()
    except StorageError as error:
        code, message = _diagnose(error, setting, thing, role)
        return Problem(code, setting, message, str(error))
    return None


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
