"""Everything put together, once a process: settings, identity, storage, model, and the use cases on top of them."""

import functools
import os
import threading
from dataclasses import dataclass

import httpx

from shared.audit.expired_queries import ExpiredQueries
from shared.audit.index.check import IndexCheck
from shared.audit.reconcile import Reconcile
from shared.audit.report_store import ReportStore
from shared.gallery.failures import Failures
from shared.gallery.newest import Newest
from shared.gallery.stored import StoredRecords
from shared.gallery.thumbnails import Thumbnails
from shared.identity import Identity
from shared.model.client import ModelClient
from shared.operations.checks import Checks
from shared.operations.dead_letters import CONTAINER, DeadLetters
from shared.operations.status import Status
from shared.operations.watch import Watch
from shared.queries.azure_ai_search import AzureAISearch
from shared.queries.cache import QueryCache
from shared.queries.queries import Queries
from shared.queries.search import Search
from shared.search.journal import Journal
from shared.search.manifest import IndexBlobs
from shared.search.reader import Reader
from shared.search.upkeep.compaction import Compaction
from shared.settings import Settings, read_settings, read_storage_settings
from shared.storage.blobs import JsonBlobs
from shared.storage.images import Images
from shared.storage.names import space_of
from shared.storage.queues import Queues
from shared.storage.rest import Rest
from shared.storage.space import Space
from shared.triggers.intake import Intake
from shared.uploads.embed import Embedder
from shared.uploads.record_store import RecordStore
from shared.uploads.requests import RequestQueue, postpone
from shared.uploads.sync import Sync
from shared.uploads.waiting.dispatcher import Dispatcher
from shared.uploads.waiting.quota import OtherQuota, Quota

_BUILDING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Application:
    """The use cases, ready to be called by the triggers from many threads, and the connections they share."""

    settings: Settings
    identity: Identity
    rest: Rest
    model: ModelClient
    query_model: ModelClient
    intake: Intake
    queries: Queries
    azure_ai_search: AzureAISearch
    reconcile: Reconcile
    status: Status
    checks: Checks
    watch: Watch
    search: Search | None
    newest: Newest | None
    failures: Failures
    stored_records: StoredRecords
    thumbnails: Thumbnails

    def close(self) -> None:
        """Close every connection."""
        self.queries.close()
        self.model.close()
        self.query_model.close()
        self.rest.close()
        self.identity.close()


def application() -> Application:
    """The application of this process, built from the app settings on the first call."""
    with _BUILDING:
        return _build()


def keep_for_later(container: str, name: str) -> None:
    """Leave an upload on the queue while the application cannot be built, because a setting is missing or invalid.

    Storage's own settings must be valid.
    """
    with _BUILDING:
        queues = _queues()
    postpone(queues, container, name)


@functools.cache
def _queues() -> Queues:
    settings = read_storage_settings(os.environ)
    return Queues(settings, Rest(settings, Identity(settings.client_id), httpx.create_ssl_context()))


@functools.cache
def _build() -> Application:
    settings = read_settings(os.environ)
    identity = Identity(settings.client_id)
    # Both clients share the certificate authorities: reading them takes 20 ms (2 vCPU Intel Xeon). SSL_CERT_FILE and
    # SSL_CERT_DIR may name others.
    tls = httpx.create_ssl_context()
    rest = Rest(settings, identity, tls)
    images, queues = Images(settings, rest), Queues(settings, rest)
    blobs = JsonBlobs(settings.embeddings_container, rest)
    space = Space(settings, blobs)
    quota = Quota(settings, space, blobs)
    model = ModelClient(settings, settings.foundry_model, identity, tls, quota)
    query_model = model
    if settings.foundry_query_model != settings.foundry_model:
        query_model = ModelClient(settings, settings.foundry_query_model, identity, tls, OtherQuota(quota))
    index = IndexBlobs(space, blobs) if settings.search == "on" else None
    compaction = Compaction(settings, index, queues) if index else None
    journal = Journal(index, compaction.ask) if index and compaction else None
    records, reports, requests = (
        RecordStore(space, blobs, journal),
        ReportStore(space, blobs),
        RequestQueue(settings, queues, quota),
    )
    reader = Reader(index) if index else None
    index_check = None
    if index and journal and compaction and reader:
        index_check = IndexCheck(records, reports, index, journal, compaction, reader)
    sync = Sync(settings, images, records, Embedder(settings, space, images, records, model), requests, quota)
    dispatcher = Dispatcher(settings, queues, requests, sync, quota, model)
    reconcile = Reconcile(
        settings, images, records, reports, ExpiredQueries(settings, blobs), index_check, queues, requests
    )
    queries = Queries(settings, space, QueryCache(settings, blobs), model, query_model)
    dead_letters = DeadLetters(settings, JsonBlobs(CONTAINER, rest), requests)
    checks = Checks(settings, identity, space, images, records, queues, model, query_model)
    return Application(
        settings=settings,
        identity=identity,
        rest=rest,
        model=model,
        query_model=query_model,
        intake=Intake(settings, records, requests, sync, dispatcher, reconcile, compaction),
        queries=queries,
        azure_ai_search=AzureAISearch(settings, images, queries),
        reconcile=reconcile,
        status=Status(settings, blobs, records, reports, index, reader, queues, dead_letters, quota),
        checks=checks,
        watch=Watch(checks, queues, dead_letters, compaction, requests, quota),
        search=Search(space_of(settings), images, queries, reader) if reader else None,
        newest=Newest(space_of(settings), images, reader) if reader else None,
        failures=Failures(records),
        stored_records=StoredRecords(settings, images, records),
        thumbnails=Thumbnails(settings, images),
    )
