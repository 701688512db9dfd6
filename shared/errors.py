"""The few ways things go wrong, and what each means for a picture or a caller.

SettingError             an app setting is missing or impossible; nothing runs until it is mended
PictureError             the picture itself cannot be embedded: recorded, never retried
ModelError               the model gave no embedding
  ModelRefused           it said no to this input: recorded, never retried
  ModelMisconfigured     it would say no to every input: somebody has to mend a setting or a role
  ModelUnavailable       not now; another try later may succeed
    ModelBusy            it was not even asked: it has told others to leave it alone for longer than we may wait
StorageError             storage refused, or gave no answer; another try later may succeed
IdentityError            the managed identity gave no token
Conflict                 somebody else wrote first: look again
QueryError               the caller's request is wrong
"""

from typing import Literal

PictureCode = Literal[
    "empty", "not_an_image", "unsupported_format", "damaged_image", "too_many_bytes", "too_many_pixels"
]
RefusalCode = Literal["content_filtered", "refused_by_model", "text_not_supported"]


class SettingError(ValueError):
    """App settings are missing or impossible. The message names each one and says what it must be."""


class PictureError(ValueError):
    """The bytes are no picture that can be embedded, whoever asks and however often."""

    def __init__(self, code: PictureCode, message: str) -> None:
        super().__init__(message)
        self.code: PictureCode = code


class ModelError(Exception):
    """The model gave no embedding. ``status`` is its HTTP status, ``None`` where there was no answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ModelRefused(ModelError):
    """The model said no to this very input (400, 413, 415, 422); asking again costs and changes nothing."""

    def __init__(self, code: RefusalCode, message: str, *, status: int) -> None:
        super().__init__(message, status=status)
        self.code: RefusalCode = code


class ModelMisconfigured(ModelError):
    """The model would say no to every input: a wrong endpoint, deployment, role or setting.

    ``fields`` are those of the request that it says it does not support.
    """

    def __init__(self, message: str, *, status: int | None = None, fields: frozenset[str] = frozenset()) -> None:
        super().__init__(message, status=status)
        self.fields = fields


class ModelUnavailable(ModelError):
    """The model is throttled, down or out of reach. ``retry_after`` is the wait it asked for, in seconds."""

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class ModelBusy(ModelUnavailable):
    """Nobody asked the model: it has told other calls to leave it alone, for longer than this one may wait."""


class StorageError(Exception):
    """Storage did not do what it was asked for, however often it was asked.

    ``status`` is its HTTP status and ``code`` its own word for it (``BlobNotFound``); ``None`` and empty where there
    was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class IdentityError(Exception):
    """The platform gave no token for the app's managed identity. The message says what to check."""


class Conflict(Exception):
    """The blob changed since it was looked at, so the conditional write did not happen."""


class QueryError(ValueError):
    """The caller's request is wrong.

    ``status`` is the HTTP status of the answer, ``code`` the machine's word for it and ``target`` the field
    at fault, such as ``input[0].image``. ``details`` are the errors of all inputs, where several may be wrong.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, target: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.target = target
        self.details: list[QueryError] = []

    @classmethod
    def of_all(cls, errors: "list[QueryError]") -> "QueryError":
        """One error for several inputs: the first, with all of them as its details."""
        first = cls(errors[0].code, str(errors[0]), status=errors[0].status, target=errors[0].target)
        first.details = errors
        return first
