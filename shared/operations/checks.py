"""Whether the app can reach all that it needs, as it is deployed: identity, containers, queues and model.

Settings can be right each for itself and still name what is not there, or what the identity may not touch. So each part
is asked for real, once, with the app's own connections.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from shared.errors import IdentityError, ModelMisconfigured, ModelRefused, ModelUnavailable, StorageError
from shared.identity import Identity
from shared.log import Report
from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import ModelOptions
from shared.settings import Settings
from shared.storage.images import Images
from shared.storage.queues import Queues
from shared.storage.rest import STORAGE_SCOPE
from shared.uploads.record_store import RecordStore

# Anybody may ask for the app's health, so what is known is told again for a while; what is being mended, not for long.
_HEALTHY_TTL, _UNHEALTHY_TTL = 300.0, 15.0
_MODEL_DEADLINE = 15.0
_MESSAGE_LIMIT = 1000
_NO_ANSWER = {None, 200, 504}
_PRIVATE = "with private endpoints, that their DNS zones are linked to the app's network."


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, in which setting, and what to do. ``said`` are the service's words: for the log only.

    ``message`` may be shown to anybody: it holds no address and no value of a setting.
    """

    code: str
    target: str
    message: str
    said: str


class Checks:
    """Looks for problems of the deployment. Safe to call from many threads: only one of them looks."""

    def __init__(
        self,
        settings: Settings,
        identity: Identity,
        images: Images,
        records: RecordStore,
        queues: Queues,
        model: ModelClient,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._images = images
        self._records = records
        self._queues = queues
        self._model = model
        self._lock = threading.Lock()
        self._found: list[Problem] = []
        self._valid_until = 0.0

    def __call__(self) -> list[Problem]:
        """What was found lately: at most five minutes ago where all was well, at most 15 seconds where not."""
        with self._lock:
            if time.monotonic() < self._valid_until:
                return self._found
            return self._run()

    def run(self) -> list[Problem]:
        """What is wrong now. Costs four small storage requests and the embedding of one word."""
        with self._lock:
            return self._run()

    def _run(self) -> list[Problem]:
        # Side by side: what is out of reach makes each of them wait.
        with ThreadPoolExecutor(max_workers=4) as threads:
            looks = [threads.submit(look) for look in self._checks()]
            self._found = [problem for look in looks if (problem := look.result())]
        self._valid_until = time.monotonic() + (_UNHEALTHY_TTL if self._found else _HEALTHY_TTL)
        for problem in self._found:
            message = f"{problem.message} {problem.said}"[:_MESSAGE_LIMIT]
            Report(outcome="error", code=problem.code, message=message).log("misconfigured", logging.ERROR)
        return self._found

    def _checks(self) -> list[Callable[[], Problem | None]]:
        if problem := self._no_token():
            # Without a token every other answer would be the same.
            return [lambda: problem]
        return [self._check_images, self._check_embeddings, self._check_queue, self._check_model]

    def _no_token(self) -> Problem | None:
        if self._settings.storage_connection_string:
            return None
        try:
            self._identity.token(STORAGE_SCOPE)
        except IdentityError as error:
            message = (
                "The managed identity gives no token: check that AZURE_CLIENT_ID is the client id of a user-assigned"
                " identity, and that this identity is assigned to the app."
            )
            return Problem("no_identity", "AZURE_CLIENT_ID", message, str(error))
        return None

    def _check_images(self) -> Problem | None:
        return _storage(self._images.check, "IMAGES_CONTAINER", "container", "Storage Blob Data Reader")

    def _check_embeddings(self) -> Problem | None:
        role = "Storage Blob Data Contributor"
        return _storage(self._records.check, "EMBEDDINGS_CONTAINER", "container", role)

    def _check_queue(self) -> Problem | None:
        role = "Storage Queue Data Contributor"
        return _storage(self._queues.check, "ImageStorage__queueServiceUri", "queue", role)

    def _check_model(self) -> Problem | None:
        options = ModelOptions(input_type="query", dimensions=self._settings.embedding_dimensions)
        try:
            self._model.embed_text("health", options, Schedule.of(MAX_TOTAL_WAIT, _MODEL_DEADLINE, urgent=True))
        except ModelMisconfigured as error:
            status = f" ({error.status})" if error.status else ""
            message = (
                f"The model refuses every call{status}: check FOUNDRY_ENDPOINT (it ends in /models), FOUNDRY_MODEL, and"
                " that the app's identity has the role Cognitive Services User on the resource."
            )
            return Problem("model_misconfigured", "FOUNDRY_ENDPOINT", message, str(error))
        except ModelUnavailable as error:
            # A model that is throttled or down is no fault of the deployment, and comes back by itself.
            if error.status in _NO_ANSWER:
                message = (
                    "The model cannot be reached: check FOUNDRY_ENDPOINT, and that the app's network lets it out;"
                    f" {_PRIVATE}"
                )
                return Problem("unreachable", "FOUNDRY_ENDPOINT", message, str(error))
        except ModelRefused:
            # It has read the input, so all before that is right.
            pass
        return None


def _storage(ask: Callable[[], None], setting: str, thing: str, role: str) -> Problem | None:
    """What storage's refusal means. ``thing`` is what was asked for, ``role`` what that takes."""
    try:
        ask()
    except StorageError as error:
        code, message = _meaning(error, setting, thing, role)
        return Problem(code, setting, message, str(error))
    return None


def _meaning(error: StorageError, setting: str, thing: str, role: str) -> tuple[str, str]:
    match error.status:
        case None:
            return "unreachable", f"Storage cannot be reached: check the ImageStorage__ settings; {_PRIVATE}"
        case 404:
            return f"missing_{thing}", f"There is no such {thing}: create it, or mend {setting}."
        case 403 if error.code == "AuthorizationFailure":
            message = f"Storage does not let the app in: check its firewall, and that the app's identity is {role}."
            return "unreachable", message
        case 401 | 403:
            message = (
                f"The app's identity may not use this {thing}: give it the role {role} there. A new role takes up to"
                " ten minutes to be seen."
            )
            return "missing_role", message
        case status:
            return "storage_unavailable", f"Storage answered {status}: see whether Azure has an outage."
