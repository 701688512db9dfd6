"""Every way things go wrong, and what each means for a picture or a caller.

SettingError             an app setting is missing or invalid: nothing runs until it is fixed
PictureError             the picture itself cannot be embedded: recorded, never retried
ModelError               the model returned no embedding
  ModelRefused           it rejected this input: recorded, never retried
  ModelMisconfigured     it would reject every input: an operator must fix a setting or a role
    WrongSpace           its vectors are not of the kind that the app's space holds
  ModelUnavailable       it cannot answer now: a later retry may succeed
    ModelTimedOut        it did not answer in time, and may have charged for the call
    NotSent              the call was not sent: the model is throttled or hangs, or time, memory or a turn is short
      Paused             the app itself sends none: DAILY_TOKEN_LIMIT is reached
StorageError             storage rejected a request or did not answer: a later retry may succeed
  BlobHeld               a lease, a policy or snapshots keep a blob from being changed until an operator lifts that
UnreadableBlob           a blob of the app is not as the app writes it: somebody else has written it, or broken it
IndexUnavailable         the index of search is not read yet, or cannot be held: see ``code``
Busy                     the process has no room for the request at the moment: ask again
IdentityError            the managed identity returned no token
ForeignRecord            the record in the image's place is of another app's image: left alone
Conflict                 another writer was first: start again from the current state
QueryError               the caller's request is wrong
"""

from typing import Literal

PictureCode = Literal[
    "empty", "not_an_image", "unsupported_format", "damaged_image", "too_many_bytes", "too_many_pixels"
]
RefusalCode = Literal["content_filtered", "refused_by_model", "text_not_supported"]
GivenUpCode = Literal["crashed", "gave_up"]
HeldCode = Literal["blob_leased", "blob_immutable", "blob_has_snapshots"]
SpaceCode = Literal["other_model", "other_dimensions", "unreadable_space"]
IndexCode = Literal["index_loading", "index_too_large"]
FailureCode = PictureCode | RefusalCode | GivenUpCode | HeldCode


class SettingError(ValueError):
    """App settings are missing or invalid. The message names each one and says what it must be."""


class PictureError(ValueError):
    """The bytes are not a picture that can be embedded; a retry cannot change that."""

    def __init__(self, code: PictureCode, message: str) -> None:
        super().__init__(message)
        self.code: PictureCode = code


class ModelError(Exception):
    """The model returned no embedding. ``status`` is its HTTP status, ``None`` if there was no answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ModelRefused(ModelError):
    """The model rejected this input (400, 413, 415, 422); a retry cannot change that."""

    def __init__(self, code: RefusalCode, message: str, *, status: int) -> None:
        super().__init__(message, status=status)
        self.code: RefusalCode = code


class ModelMisconfigured(ModelError):
    """The model would reject every input: the endpoint, deployment, role or a setting is wrong.

    ``fields`` are the request fields that the model says it does not support.
    """

    def __init__(self, message: str, *, status: int | None = None, fields: frozenset[str] = frozenset()) -> None:
        super().__init__(message, status=status)
        self.fields = fields


class WrongSpace(ModelMisconfigured):
    """The model's vectors are not of the kind that the app's space holds, or what it holds cannot be told.

    Says nothing about any image: nothing is recorded or removed because of it.
    """

    def __init__(self, code: SpaceCode, message: str) -> None:
        super().__init__(message)
        self.code: SpaceCode = code


class ModelUnavailable(ModelError):
    """The model is throttled, down or unreachable. ``retry_after`` is the wait it asked for, in seconds."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class ModelTimedOut(ModelUnavailable):
    """The model did not answer in time. It may have charged for the call, so the call is not simply repeated."""


class NotSent(ModelUnavailable):
    """The call was not sent: the model is throttled or hangs, or time, memory or the turn of another sync ran out."""


class Paused(NotSent):
    """``DAILY_TOKEN_LIMIT`` is reached, or 0: no call is sent until the next day (UTC), or the setting is raised."""


class StorageError(Exception):
    """Storage still failed a request after all retries.

    ``status`` is its HTTP status and ``code`` its error code (``BlobNotFound``); ``None`` and empty if there was no
    answer.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BlobHeld(StorageError):
    """A blob may not be written or deleted until an operator lifts what holds it: ``reason``. The message says how."""

    def __init__(self, reason: HeldCode, message: str, *, status: int, code: str) -> None:
        super().__init__(message, status=status, code=code)
        self.reason: HeldCode = reason


class UnreadableBlob(Exception):
    """A blob is not JSON of the shape that the app writes at ``path``."""

    def __init__(self, path: str, why: Exception) -> None:
        super().__init__(f"{path} is not as the app writes it: {why}.")
        self.path = path


class IndexUnavailable(Exception):
    """The index of search is not read yet, or too large to be held. ``retry_after`` says in how many seconds to ask."""

    def __init__(self, code: IndexCode, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.code: IndexCode = code
        self.retry_after = retry_after


class Busy(Exception):
    """The process has no room for the request now. ``retry_after`` says in how many seconds to ask again."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdentityError(Exception):
    """The platform returned no token for the app's managed identity. The message says what to check."""


class ForeignRecord(Exception):
    """The record in an image's place says that it is of an image in another container. The message says which."""


class Conflict(Exception):
    """The blob changed since it was read, so the conditional write did not happen."""


# Whoever sends 2,048 inputs that are all wrong has made one mistake, not 2,048.
_MAX_DETAILS = 100


class QueryError(ValueError):
    """The caller's request is wrong.

    ``status`` is the HTTP status of the answer, ``code`` the error code and ``target`` the field at fault, such as
    ``input[0].image``. ``details`` holds one error per wrong input where a request has several inputs.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, target: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.target = target
        self.details: list[QueryError] = []

    @classmethod
    def of_all(cls, errors: "list[QueryError]") -> "QueryError":
        """One error for several inputs: the first, with the first hundred as its ``details``."""
        first = cls(errors[0].code, str(errors[0]), status=errors[0].status, target=errors[0].target)
        first.details = errors[:_MAX_DETAILS]
        return first
