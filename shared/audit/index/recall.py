"""How much of what is nearest a search finds, measured on the images that the index has.

A hundred of them, spread over all names, are the queries. Recall for texts is not measured: no vector of one is stored
that was meant for a search.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from shared.audit.report import IndexReport
from shared.errors import IndexUnavailable, StorageError
from shared.log import Report
from shared.search.reader import Reader

if TYPE_CHECKING:
    import numpy as np

    from shared.search.index import Index

_QUERIES, _NEAREST = 100, 10
# Below this the log has a warning.
_ENOUGH = 0.99
# More than a cosine in float32 differs from the exact one.
_ERROR = 1e-5


@dataclass(kw_only=True)
class _RecallLine(Report):
    """What was measured, logged as the event ``index``."""

    images: int
    candidates: int
    recall: float | None = None


def measure_recall(report: IndexReport, reader: Reader) -> None:
    """Put ``recall`` and ``candidates`` into the report, unless searches of so many ``images`` are exact.

    Reads the index as a search does, and all its vectors once. What cannot be read or held stays without a recall.
    """
    from shared.search.ranking import candidates_of

    report.candidates = candidates_of(report.images)
    if report.candidates is None:
        return
    line = _RecallLine(outcome="recall", images=report.images, candidates=report.candidates)
    level = logging.INFO
    try:
        with line.step("total"):
            report.recall = line.recall = recall(reader.lend())
    except (IndexUnavailable, StorageError) as error:
        line.outcome, line.message = "recall_unknown", f"What searches find is not measured: {error}"
    else:
        if line.recall < _ENOUGH:
            level = logging.WARNING
            line.message = (
                f"Searches find {line.recall:.1%} of the ten nearest images. Narrow them by prefix or since, or search"
                " with Azure AI Search: see docs/search.md."
            )
    line.log("index", level)


def recall(index: "Index") -> float:
    """The share of the ten images nearest to each of a hundred that a search for it finds; of two images at least."""
    names = islice(index.names(), 0, None, -(-len(index) // _QUERIES))
    queries = {name: vector for name in names if (vector := index.vector_of(name)) is not None}
    shares = []
    for (name, vector), nearest in zip(queries.items(), _nearest(index, list(queries.values())), strict=True):
        # Which of two equally near ones is found does not matter.
        least = float(nearest[0]) - _ERROR
        hits = index.search(vector, top=_NEAREST, without=name)
        shares.append(sum(hit.score >= least for hit in hits) / len(nearest))
    return sum(shares) / len(shares)


def _nearest(index: "Index", queries: Sequence[Sequence[float]]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Of each query, which is an image, the ten largest cosines with other images, ascending."""
    import numpy as np

    units = np.array(queries, np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    best = np.empty((len(units), 0), np.float32)
    # Nothing is nearer to it than it is itself.
    wanted = _NEAREST + 1
    for vectors in index.vectors():
        best = np.hstack([best, units @ vectors.T])
        if best.shape[1] > wanted:
            best = np.partition(best, -wanted, axis=1)[:, -wanted:]
    return np.sort(best, axis=1)[:, :-1]
