"""What a search finds, as a test asks for it."""

from shared.search.index import Index
from tests.conftest import Cloud

_MANY = 1000


def found(index: Index) -> dict[str, str]:
    """The ETags of all images that an index finds."""
    if not len(index):
        return {}
    vector = index.vector_of(next(index.names()))
    assert vector is not None
    return {hit.name: hit.facts.etag for hit in index.search(vector, top=_MANY)}


def searched(cloud: Cloud) -> dict[str, str]:
    """The same of a process that searches for the first time."""
    return found(cloud.reader().current())
