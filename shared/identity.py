"""The app's managed identity: a token for whoever asks on its behalf."""

import functools
import threading
import time
from typing import TYPE_CHECKING

from shared.errors import IdentityError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.identity import ManagedIdentityCredential

# A token that ends while a request is on its way is refused. The platform has a new one by then.
_MARGIN = 300


class Identity:
    """Tokens by scope, each kept until it is about to end. Safe to call from many threads.

    The identity's library is imported with the first token: it takes longer to import than all the rest of the app.
    """

    def __init__(self, client_id: str | None) -> None:
        self._client_id = client_id
        self._fetching = threading.Lock()
        self._kept: dict[str, AccessToken] = {}

    def token(self, scope: str, *, fresh: bool = False) -> str:
        """A token for ``scope``; with ``fresh``, another than before. Raises :class:`IdentityError`."""
        before = self._kept.get(scope)
        if before is not None and not fresh and _is_good(before):
            return before.token
        with self._fetching:
            kept = self._kept.get(scope)
            # Somebody else may have fetched one meanwhile.
            if kept is None or kept is before or not _is_good(kept):
                kept = self._kept[scope] = self._fetch(scope, fresh)
            return kept.token

    @functools.cached_property
    def credential(self) -> "ManagedIdentityCredential":
        """The same identity for clients of the SDK."""
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self._client_id)

    def close(self) -> None:
        """Close the connections."""
        if "credential" in self.__dict__:
            self.credential.close()

    def _fetch(self, scope: str, fresh: bool) -> "AccessToken":
        from azure.core.exceptions import AzureError

        try:
            # The credential has a cache of its own; any claims make it ask the platform anew.
            token: AccessToken = self.credential.get_token(scope, claims="{}" if fresh else None)
        except AzureError as error:
            raise IdentityError(
                f"The managed identity gave no token for {scope}: {error.message}"
                " Check AZURE_CLIENT_ID and that this identity is assigned to the app."
            ) from error
        return token


def _is_good(token: "AccessToken") -> bool:
    return token.expires_on - time.time() > _MARGIN
