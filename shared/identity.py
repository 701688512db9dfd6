"""The app's managed identity: access tokens for its calls to storage and the model."""

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

from shared.errors import IdentityError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.identity import ManagedIdentityCredential

# A token is replaced so many seconds before it expires, so that none expires during a request. By then the platform
# issues a new one.
_MIN_LIFETIME = 300
# Of each of the library's attempts, in seconds. Its defaults are five minutes, as long as an invocation may take, and
# every thread that needs a token waits for the one that fetches it.
_TIMEOUTS: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 15}


class Identity:
    """Tokens by scope, each kept until it is about to expire. Safe to call from many threads.

    The Azure Identity library is imported with the first token: that takes longer than importing the rest of the app.
    """

    def __init__(self, client_id: str | None) -> None:
        self._client_id = client_id
        self._lock = threading.Lock()
        self._tokens: dict[str, AccessToken] = {}

    def token(self, scope: str, *, fresh: bool = False) -> str:
        """A token for ``scope``; with ``fresh``, a new one. Raises :class:`IdentityError`."""
        before = self._tokens.get(scope)
        if before is not None and not fresh and _is_valid(before):
            return before.token
        with self._lock:
            token = self._tokens.get(scope)
            # Another thread may have fetched one meanwhile.
            if token is None or token is before or not _is_valid(token):
                token = self._tokens[scope] = self._fetch(scope, fresh)
            return token.token

    @functools.cached_property
    def credential(self) -> "ManagedIdentityCredential":
        """The same identity, for the clients of the Azure SDK."""
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self._client_id, **_TIMEOUTS)

    def close(self) -> None:
        """Close the connections."""
        if "credential" in self.__dict__:
            self.credential.close()

    def _fetch(self, scope: str, fresh: bool) -> "AccessToken":
        from azure.core.exceptions import AzureError

        try:
            # The credential has a cache of its own; any claims make it request a new token from the platform.
            token: AccessToken = self.credential.get_token(scope, claims="{}" if fresh else None)
        except AzureError as error:
            raise IdentityError(
                f"The managed identity returned no token for {scope}: {error.message}"
                " Check AZURE_CLIENT_ID and that this identity is assigned to the app."
            ) from error
        return token


def _is_valid(token: "AccessToken") -> bool:
    return token.expires_on - time.time() > _MIN_LIFETIME
