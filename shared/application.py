"""What the process holds once: its settings, one credential, one storage client, one model client."""

import functools
import os
import threading
from dataclasses import dataclass

from azure.identity import ManagedIdentityCredential

from shared.deferral import Deferral
from shared.foundry import Foundry
from shared.intake import Intake
from shared.queries import Queries
from shared.settings import Settings, read_settings
from shared.store import Store
from shared.sync import Sync

_BUILDING = threading.Lock()


@dataclass(frozen=True)
class Application:
    """The use cases, ready to be called by the triggers from many threads, and what they share."""

    settings: Settings
    credential: ManagedIdentityCredential
    store: Store
    foundry: Foundry
    deferral: Deferral
    intake: Intake
    queries: Queries

    def close(self) -> None:
        """Close every connection."""
        self.deferral.close()
        self.foundry.close()
        self.store.close()
        self.credential.close()


def application() -> Application:
    """The process's application, built from the app settings on the first call."""
    with _BUILDING:
        return _build()


@functools.cache
def _build() -> Application:
    settings = read_settings(os.environ)
    credential = ManagedIdentityCredential(client_id=settings.client_id)
    store = Store(settings, credential)
    foundry = Foundry(settings, credential)
    deferral = Deferral(settings, credential)
    intake = Intake(settings, store, Sync(settings, store, foundry, deferral))
    queries = Queries(settings, store, foundry)
    return Application(settings, credential, store, foundry, deferral, intake, queries)
