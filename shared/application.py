"""What the process holds once: its settings, one identity, one storage client, one model client."""

import functools
import os
import threading
from dataclasses import dataclass

import httpx

from shared.checks import Checks
from shared.endpoint import Endpoint
from shared.foundry import Foundry
from shared.identity import Identity
from shared.intake import Intake
from shared.queries import Queries
from shared.query_cache import QueryCache
from shared.queues import Queues
from shared.reconcile import Reconcile
from shared.rest import Rest
from shared.search import Search
from shared.settings import Settings, read_settings
from shared.status import Status
from shared.store import Store
from shared.sync import Sync
from shared.watch import Watch

_BUILDING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Application:
    """The use cases, ready to be called by the triggers from many threads, and what they share."""

    settings: Settings
    identity: Identity
    rest: Rest
    store: Store
    foundry: Foundry
    queues: Queues
    intake: Intake
    queries: Queries
    endpoint: Endpoint
    search: Search
    reconcile: Reconcile
    status: Status
    checks: Checks
    watch: Watch

    def close(self) -> None:
        """Close every connection."""
        self.queries.close()
        self.foundry.close()
        self.rest.close()
        self.identity.close()


def application() -> Application:
    """The process's application, built from the app settings on the first call."""
    with _BUILDING:
        return _build()


@functools.cache
def _build() -> Application:
    settings = read_settings(os.environ)
    identity = Identity(settings.client_id)
    # The authorities are read once for both: 20 ms (2 vCPU Intel Xeon). SSL_CERT_FILE and SSL_CERT_DIR may name others.
    tls = httpx.create_ssl_context()
    rest = Rest(settings, identity, tls)
    store = Store(settings, rest)
    foundry = Foundry(settings, identity, tls)
    queues = Queues(settings, rest)
    queries = Queries(settings, QueryCache(settings, store), foundry)
    reconcile = Reconcile(settings, store, queues)
    checks = Checks(settings, identity, store, queues, foundry)
    return Application(
        settings=settings,
        identity=identity,
        rest=rest,
        store=store,
        foundry=foundry,
        queues=queues,
        intake=Intake(settings, store, Sync(settings, store, foundry, queues), reconcile),
        queries=queries,
        endpoint=Endpoint(settings, queries),
        search=Search(settings, store, queries),
        reconcile=reconcile,
        status=Status(settings, store, queues),
        checks=checks,
        watch=Watch(checks, queues),
    )
