"""An image as browsers' forms and ``curl -F`` send it: ``multipart/form-data`` with one file (RFC 7578)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from shared.errors import QueryError

# Enough for the file, every option and whatever else a page may have in its form.
_MAX_PARTS = 64
_MAX_NAME = 100


@dataclass(frozen=True)
class Form:
    """A form with one file: the ``image`` from the part of this ``name``, and the text ``fields`` by their names."""

    name: str
    image: bytes = field(repr=False)
    fields: dict[str, str]


def read_form(body: bytes, content_type: str) -> Form:
    """Read a form that has been sent with this header; raises :class:`~shared.errors.QueryError`."""
    boundary = parse_options_header(content_type)[1].get("boundary")
    if not boundary:
        message = "The content-type of the form names no boundary. Do not set that header: your HTTP library does."
        raise QueryError("invalid_request", message, target="content-type")
    files: list[tuple[str, bytes]] = []
    fields: dict[str, str] = {}
    try:
        for part, content in _parts(body, boundary):
            if not _is_file(part):
                fields[part.name or ""] = _text(part, content)
            elif content or part.filename:
                files.append((part.name or "", content))
    except MultipartError as error:
        raise QueryError("invalid_request", f"The form cannot be read: {error}.") from error
    if len(files) != 1:
        message = f"The form has {len(files)} files; send one, as in curl -F image=@bike.png."
        raise QueryError("invalid_request", message)
    [(name, image)] = files
    return Form(name[:_MAX_NAME] or "body", image, fields)


def _parts(body: bytes, boundary: str) -> Iterator[tuple[MultipartSegment, bytes]]:
    """Each part with its content."""
    with PushMultipartParser(boundary, max_segment_count=_MAX_PARTS) as parser:
        content: list[bytes] = []
        for event in parser.parse(body):
            if isinstance(event, MultipartSegment):
                part, content = event, []
            elif event is None:
                yield part, b"".join(content)
            else:
                content.append(event)


def _is_file(part: MultipartSegment) -> bool:
    """Whether it is a file: by its file name, which is empty where a browser's user chose none, or by its type."""
    kind = part.content_type or ""
    return part.filename is not None or kind.startswith("image/") or kind == "application/octet-stream"


def _text(part: MultipartSegment, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        target = (part.name or "")[:_MAX_NAME] or None
        raise QueryError("invalid_request", "The field is not UTF-8.", target=target) from error
