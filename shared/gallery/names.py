"""Images as callers name them."""

from shared.errors import QueryError
from shared.storage.names import is_addressable, utf16_length

# The longest name of a blob.
_LONGEST = 1024


def check_name(name: str) -> None:
    """Raise :class:`~shared.errors.QueryError` for what cannot be the name of an image."""
    if not name:
        raise QueryError("invalid_request", "Name an image, behind the route or as ?name=.", target="name")
    if not is_addressable(name):
        message = "No image has . or .. as a part of its name: URLs resolve it to another one."
        raise QueryError("invalid_request", message, target="name")
    if utf16_length(name) > _LONGEST:
        raise unknown(name)


def unknown(name: str) -> QueryError:
    """The error for an image that is not there."""
    return QueryError("unknown_image", f"There is no image {name[:_LONGEST]}.", status=404, target="name")
