"""The settings of the app as it is deployed, with every default, and the limits of pictures in either wire format."""

from dataclasses import replace

from shared.known_models import COHERE_PATH, image_types
from shared.pictures.limits import Limits
from shared.settings import read_settings

SETTINGS = read_settings(
    {
        "FOUNDRY_ENDPOINT": "https://bench.services.ai.azure.com/models",
        "FOUNDRY_MODEL": "Cohere-embed-v3-english",
        "FOUNDRY_API_KEY": "none",
        "ImageStorage__blobServiceUri": "https://bench.blob.core.windows.net",
        "ImageStorage__queueServiceUri": "https://bench.queue.core.windows.net",
        "ImageStorage__credential": "managedidentity",
        "ImageStorage__clientId": "00000000-0000-0000-0000-000000000000",
    }
)
LIMITS = Limits.of(SETTINGS)
LIMITS_OF_COHERE = replace(LIMITS, image_types=image_types(COHERE_PATH))
