"""A real deployment in place of the stand-in for the model: which, and how the app signs in to it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import certifi

from local.identity import IdentityError, Token

# Without a key, the caller's own sign-in is asked for a token. The app's own would come from its managed identity.
KEY = "FOUNDRY_API_KEY"
# Of the two resources that such tokens are for.
RESOURCES = ("https://cognitiveservices.azure.com", "https://ai.azure.com")


@dataclass(frozen=True)
class RealModel:
    """A deployment on a real Foundry resource. Everything else stays on this machine."""

    endpoint: str
    deployment: str
    api_key: str | None = field(repr=False)

    @classmethod
    def of_environment(cls, endpoint: str, deployment: str) -> "RealModel":
        """The deployment, with the key of the environment if there is one."""
        return cls(endpoint, deployment, os.environ.get(KEY) or None)

    def app_settings(self, authorities: Path) -> Mapping[str, str]:
        """What the app is told. It must trust the authorities of the internet and the emulator's own, in one file."""
        trusted = authorities.with_name("authorities.pem")
        trusted.write_text(f"{certifi.contents()}\n{authorities.read_text()}")
        signed_in = {KEY: self.api_key} if self.api_key else {}
        return {
            "FOUNDRY_ENDPOINT": self.endpoint,
            "FOUNDRY_MODEL": self.deployment,
            "SSL_CERT_FILE": str(trusted),
            **signed_in,
        }


def notice(model: RealModel) -> str:
    """What whoever starts it must know before anything is asked."""
    how = f"the key in {KEY}" if model.api_key else "your own sign-in (az login)"
    return f"Every picture and query is embedded by {model.deployment} at {model.endpoint} and paid for, with {how}."


def token_of_az(resource: str) -> Token | None:
    """A token of whoever has signed in with ``az login``, for the model's resources alone.

    Raises :class:`~local.identity.IdentityError` if nobody has.
    """
    if resource.rstrip("/") not in RESOURCES:
        return None
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import AzureCliCredential

    try:
        token = AzureCliCredential().get_token(f"{resource.rstrip('/')}/.default")
    except ClientAuthenticationError as error:
        raise IdentityError(f"Run az login, or put the key into {KEY}. {error}") from error
    return Token(token.token, token.expires_on)
