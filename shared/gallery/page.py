"""The files of the page, as browsers get them: compressed where they can be, with an ETag and what protects them."""

import functools
import gzip
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

INDEX = "index.html"
_FILES = Path(__file__).parent / "files"
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
# Nothing inline, nothing from elsewhere, no text that becomes markup or code, and no frame around it. Thumbnails come
# with a key in a header, so they are shown from memory (blob:).
_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    # Asked for again each time, and sent again only if an upgrade has changed it.
    "cache-control": "no-cache",
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class File:
    """A file of the page: plain, compressed by gzip, and its ETag without quotes."""

    media_type: str
    plain: bytes = field(repr=False)
    compressed: bytes = field(repr=False)
    etag: str


@functools.cache
def files() -> dict[str, File]:
    """All files of the page by name, read and compressed once."""
    return {path.name: _read(path) for path in sorted(_FILES.iterdir()) if path.suffix in _MEDIA_TYPES}


def _read(path: Path) -> File:
    plain = path.read_bytes()
    etag = hashlib.sha256(plain).hexdigest()[:16]
    return File(_MEDIA_TYPES[path.suffix], plain, gzip.compress(plain, mtime=0), etag)
