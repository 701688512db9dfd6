"""Storage and the model are told which version of the app asks them, so that an operator finds it in their logs."""

import http.server
import threading

import pytest

from local.azurite import Azurite
from shared import __version__
from shared.errors import ModelError, StorageError
from tests.conftest import Cloud
from tests.model.asking import embed_text


def test_storage_and_the_model_are_told_the_version(cloud: Cloud, azurite: Azurite) -> None:
    told = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers["user-agent"])
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(403)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - so the library calls it

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        # Only with a key may storage be asked without TLS.
        storage = azurite.connection_string.replace(azurite.blob_url, f"{url}/devstoreaccount1")
        asking = cloud.with_settings(FOUNDRY_ENDPOINT=f"{url}/models", ImageStorage=storage)
        with pytest.raises(ModelError):
            embed_text(asking)
        rest = asking.rest()
        blob = rest.blob_url("images", "a.png")
        for read in (rest.read, lambda it: rest.read_large(it, "0x1")):
            with pytest.raises(StorageError):
                read(blob)
        server.shutdown()
    assert len(told) >= 3
    assert all(agent.startswith(f"image-embeddings/{__version__}") for agent in told)
