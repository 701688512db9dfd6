"""The body of a request that may have an image: the image itself, a form with one, or JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import QueryError
from shared.parsing import read_json_body

_OTHERS = ", a form with one file (multipart/form-data), or the image itself with its content-type, such as image/jpeg"


@dataclass(frozen=True)
class ImageBody:
    """An image that was sent as it is, or in a form; ``name`` is what errors call it.

    ``fields`` are the strings beside it: of the query string, and of the form.
    """

    name: str
    image: bytes = field(repr=False)
    fields: Mapping[str, str]

    def text(self) -> str | None:
        """The text that belongs to the image."""
        return self.fields.get("text", "").strip() or None


def read_body(body: bytes, content_type: str, parameters: Mapping[str, str]) -> ImageBody | object:
    """The image, or else the JSON of a body; raises :class:`~shared.errors.QueryError` for what is neither.

    A picture is recognised whatever ``content_type`` says of it. ``parameters`` are those of the query string.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        # Deferred, as few requests need it.
        from shared.queries.formats.forms import read_form

        form = read_form(body, content_type)
        return _image_body(form.name, form.image, {**parameters, **form.fields})
    if kind.startswith("image/") or kind == "application/octet-stream" or _is_picture(body):
        return _image_body("body", body, parameters)
    return read_json_body(body, content_type, others=_OTHERS)


def _image_body(name: str, image: bytes, fields: Mapping[str, str]) -> ImageBody:
    if not image:
        raise QueryError("empty", "The image has no bytes.", target=name)
    return ImageBody(name, image, fields)


def _is_picture(body: bytes) -> bool:
    """Whether the body starts like a picture. JSON is an object here, which no picture starts like."""
    if body[:1] in {b"{", b""}:
        return False
    # Deferred: it brings a decoder along, which most requests do not need.
    from shared.pictures import headers

    return headers.is_picture(body) or headers.unsupported(body) is not None
