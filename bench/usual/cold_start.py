"""The start of the usual function app: imports at the top, settings, and the clients that every invocation shares.

After ``Azure-Samples/azure-search-openai-demo`` (``app/functions``: settings and clients made at import) and the async
samples of ``azure-ai-inference``.
"""

import asyncio

import azure.functions as func
from azure.ai.inference.aio import ImageEmbeddingsClient
from azure.identity.aio import ManagedIdentityCredential
from azure.storage.blob.aio import BlobServiceClient
from PIL import Image
from pydantic_settings import BaseSettings


class Settings(BaseSettings):  # type: ignore[misc] # pydantic-settings is installed for the benchmark only
    """The app settings."""

    foundry_endpoint: str
    foundry_model: str
    azure_client_id: str
    storage_uri: str = "https://bench.blob.core.windows.net"


async def start() -> None:
    """Make the clients, on the loop that will use them."""
    settings = Settings()
    credential = ManagedIdentityCredential(client_id=settings.azure_client_id)
    scopes = ["https://cognitiveservices.azure.com/.default"]
    BlobServiceClient(settings.storage_uri, credential)
    ImageEmbeddingsClient(settings.foundry_endpoint, credential, credential_scopes=scopes, model=settings.foundry_model)
    Image.init()


app = func.FunctionApp()
asyncio.run(start())
