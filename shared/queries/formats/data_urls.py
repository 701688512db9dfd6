"""Images as text: data URLs and bare base64, in all the ways in which people's tools write them.

The rules are those of browsers: "forgiving-base64 decode" in WHATWG's Infra standard, and the "data: URL processor" in
its Fetch standard. In addition base64 may be in the URL-safe alphabet (RFC 4648, section 5).
"""

import binascii
import re

import pybase64

from shared.errors import QueryError

_SCHEME = "data:"
_BLANKS = b" \t\n\f\r"
_LINE_BREAKS = b"\t\n\r"  # what URLs lose before they are read
_BASE64 = re.compile(r"; *base64$", re.IGNORECASE)
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def decode_image(image: str, target: str) -> bytes:
    """The bytes of a data URL or of bare base64; raises :class:`~shared.errors.QueryError`, which names ``target``."""
    head = image[:100].lstrip()[: len("https://")].lower()
    if head.startswith(("http://", "https://")):
        message = "Send the image itself as a data URL; links are not followed."
        raise QueryError("invalid_request", message, target=target)
    try:
        data = _from_data_url(image.lstrip()) if head.startswith(_SCHEME) else _from_base64(image)
    except ValueError as error:
        raise QueryError("invalid_request", f"The image is not {error}", target=target) from error
    if not data:
        raise QueryError("empty", "The image has no bytes.", target=target)
    return data


def _from_data_url(url: str) -> bytes:
    """The bytes of a data URL, base64 or percent-encoded; raises ``ValueError``."""
    head, comma, body = url.partition(",")
    is_base64 = bool(comma) and _BASE64.search(head.rstrip()) is not None
    if is_base64 and (plain := _from_plain_base64(body)) is not None:
        return plain
    body = body.partition("#")[0]
    if "%" not in body:
        if not is_base64:
            # Base64 without its marker would pass for the bytes themselves. Some bytes of any picture need an escape.
            raise ValueError("a data URL like data:image/png;base64,<data>.")
        return _from_base64(body)
    escaped = body.encode().translate(None, _LINE_BREAKS)
    if _NO_ESCAPE.search(escaped):
        raise ValueError("a valid data URL: a % in it is not followed by two hexadecimal digits.")
    # Quoted-printable has = where a URL has %, and is decoded without an object for each escape.
    decoded = binascii.a2b_qp(escaped.replace(b"=", b"%3D").replace(b"%", b"="))
    return _from_base64(decoded) if is_base64 else decoded


def _from_base64(text: str | bytes) -> bytes:
    """The bytes that base64 stands for; raises ``ValueError``."""
    if (plain := _from_plain_base64(text)) is not None:
        return plain
    try:
        return pybase64.b64decode(_plain(text.encode("ascii") if isinstance(text, str) else text), validate=True)
    except ValueError as error:
        reason = "it has characters beyond ASCII" if isinstance(error, UnicodeError) else str(error)
        raise ValueError(f"valid base64: {reason}.") from error


def _from_plain_base64(text: str | bytes) -> bytes | None:
    """The same for what nearly everybody sends, in one pass without a copy; ``None`` for all else."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        return None


def _plain(text: bytes) -> bytes:
    """Base64 in one line, in the standard alphabet and padded; raises ``ValueError`` where padding is wrong."""
    text = text.translate(None, _BLANKS)
    if b"-" in text or b"_" in text:
        if b"+" in text or b"/" in text:
            raise ValueError("it mixes the standard and the URL-safe alphabet")
        text = text.translate(_TO_STANDARD)
    if len(text) % 4 == 0:
        text = text.removesuffix(b"=").removesuffix(b"=")
    if len(text) % 4 == 1 or b"=" in text:
        raise ValueError("its length or padding is wrong")
    return text + b"=" * (-len(text) % 4)
