"""A client of the model stand-in that asks as the app would, and the stand-in to ask."""

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from PIL import Image

from local.azurite import REPO_ROOT
from tests.conftest import PATIENCE

ENGLISH = "Cohere-embed-v3-english"
V4 = "embed-v-4-0"
PLAIN = "plain-embed"
IMAGES = "/models/images/embeddings"
TEXTS = "/models/embeddings"


def token(audience: str = "https://cognitiveservices.azure.com", lifetime: float = 3600) -> str:
    """Make an unsigned JWT, like those of the local identity endpoint."""
    parts = [{"alg": "none"}, {"aud": audience, "exp": time.time() + lifetime, "appid": "the-app"}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2ln"])


def png(colour: str = "red", size: tuple[int, int] = (40, 30), file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, file_format)
    return file.getvalue()


def data_url(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


class Client:
    """Asks the stand-in as the app would."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False)

    def post(self, route: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token()}"} | (headers or {})
        return self.http.post(route, params={"api-version": "2024-05-01-preview"}, json=body, headers=headers)

    def image(self, content: bytes | None = None, *, model: str = ENGLISH, **more: object) -> httpx.Response:
        item = {"image": data_url(png() if content is None else content)}
        return self.post(IMAGES, {"model": model, "input": [item], **more})

    def text(self, *texts: str, model: str = ENGLISH, **more: object) -> httpx.Response:
        return self.post(TEXTS, {"model": model, "input": list(texts), **more})

    def behave(self, **behaviour: object) -> None:
        self.http.post("/admin/behaviour", json=behaviour).raise_for_status()

    def calls(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/admin/calls").json()
        return answer


@contextmanager
def serve(*arguments: str) -> Iterator[Client]:
    """A stand-in that was started with these arguments, until the end of the block, however that comes about."""
    command = [sys.executable, "-m", "local.model", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=REPO_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            client = Client(process.stdout.readline().removeprefix("listening on ").strip())
            with client.http:
                yield client
        finally:
            process.terminate()


def vector_of(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    vector: list[float] = response.json()["data"][0]["embedding"]
    return vector
