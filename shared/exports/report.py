"""What an export is asked for, what it has made, and its state while it runs: plain data."""

from datetime import datetime
from typing import Annotated

import msgspec

from shared.storage.listing import LISTABLE
from shared.storage.queues import Message

SCHEMA = 1


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to export: records of images whose names start with ``prefix``, embedded at ``since`` or later.

    With ``float16`` the numbers of the vectors take two bytes instead of four.
    """

    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    prefix: Annotated[str, msgspec.Meta(max_length=900, pattern=LISTABLE)] = ""
    float16: bool = False


class ExportReport(msgspec.Struct, kw_only=True):
    """What an export has made, or has made so far while ``finished_at`` is ``None``.

    ``folder`` is where its parts are and, once it is finished, its manifest. ``listed`` counts the names that have a
    record, ``rows`` those of the parts so far. ``damaged`` counts records that could not be read, which are left out.
    ``gone`` counts the names that had a record when the export ``base`` was made and have none now; it is ``None``
    while that is not known, and where there is no such export. ``as_of`` is the ``since`` of the next export: every
    record from before is in this one or an earlier one.
    """

    schema: int = SCHEMA
    id: str
    folder: str
    started_at: datetime
    progressed_at: datetime
    finished_at: datetime | None = None
    as_of: datetime
    since: datetime | None = None
    prefix: str = ""
    float16: bool = False
    base: str | None = None
    listed: int = 0
    rows: int = 0
    parts: int = 0
    bytes: int = 0
    gone: int | None = None
    damaged: int = 0

    def answers(self, request: ExportRequest) -> bool:
        """Whether this export does what is asked for."""
        return (self.since, self.prefix, self.float16) == (request.since, request.prefix, request.float16)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an export: its name in the folder, and the names of its ``first`` and ``last`` image.

    Each part begins behind the one before it.
    """

    name: str
    rows: int
    bytes: int
    first: str
    last: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """An export that is finished: every part there is. Fields that it shares with the report mean the same.

    ``parts`` have the records, ``gone_parts`` the names that are gone. ``damaged_names`` are the first 1,000 of them.
    ``model`` is the model's own name, as in the records; it and ``dimensions`` are ``None`` in an export without rows.
    """

    schema: int = SCHEMA
    id: str
    space: str
    container: str
    model: str | None
    dimensions: int | None
    started_at: datetime
    finished_at: datetime
    as_of: datetime
    since: datetime | None
    prefix: str
    float16: bool
    base: str | None
    rows: int
    bytes: int
    parts: list[Part]
    gone: int | None
    gone_parts: list[Part]
    damaged: int
    damaged_names: list[str]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the names that were listed, in order, from ``first`` to ``last``. Those of two runs may overlap."""

    name: str
    rows: int
    first: str
    last: str


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """All names that an export has listed."""

    runs: list[Run]


class Export(msgspec.Struct, kw_only=True):
    """An export that runs.

    It lists names from ``marker`` on into ``runs`` until they are ``listed``. Then it reads the records of those after
    ``done``, in order, until all are ``read``; then the names of the export before it, after ``compared``, until that
    ``is_compared``. ``next_part`` is the number of the next part; somebody may have begun to write it if ``begun``.
    ``token`` is another one each time that it is stored.
    """

    report: ExportReport
    token: str = ""
    marker: str = ""
    listed: bool = False
    runs: list[Run] = []
    done: str = ""
    read: bool = False
    compared: str = ""
    is_compared: bool = False
    next_part: int = 0
    begun: bool = False
    parts: list[Part] = []
    gone_parts: list[Part] = []
    damaged_names: list[str] = []
    model: str | None = None
    dimensions: int | None = None


class ExportMessage(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message on the queue ``embedding-requests``: go on with the export that has this id."""

    export: Annotated[str, msgspec.Meta(pattern="^[0-9a-f-]{1,64}$")]
