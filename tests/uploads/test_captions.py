"""A picture with a text is embedded also where the model takes no text beside a picture; its record says so."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

from shared.audit.reconcile import ReconcileRequest
from tests.conftest import Cloud
from tests.uploads.test_sync import picture

REFUSAL = {"message": "texts must be empty when input_type=image"}


@contextlib.contextmanager
def pictures_alone() -> Iterator[tuple[str, list[bool]]]:
    """A model as Cohere's v3 documents itself: a picture or a text, not both. And whether each call had a text."""
    asked: list[bool] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append("text" in body["input"][0])
            answer = REFUSAL if asked[-1] else {"data": [{"index": 0, "embedding": [0.5] * 1024}]}
            content = json.dumps(answer).encode()
            self.send_response(400 if asked[-1] else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/models", asked
        server.shutdown()


def test_a_captioned_picture_is_embedded_alone_where_the_model_takes_no_captions(cloud: Cloud) -> None:
    with pictures_alone() as (endpoint, asked):
        cloud = cloud.with_settings(FOUNDRY_ENDPOINT=endpoint)
        cloud.upload("a.png", picture(), text="a red square")
        assert cloud.sync().upload("a.png").outcome == "embedded"
        assert asked == [True, False]
        cloud.upload("copy.png", picture(), text="a red square")
        assert cloud.sync().upload("copy.png").outcome == "copied"
        cloud.upload("plain.png", picture("blue"))
        cloud.sync().upload("plain.png")
    for name in ("a.png", "copy.png"):
        record = cloud.record(name)
        assert (record["text"], record["text_refused"]) == (None, "a red square")
    assert "text_refused" not in cloud.record("plain.png")
    report = cloud.reconcile().start(ReconcileRequest())
    assert (report.current, report.text_refused, report.requested) == (3, 2, 0)
    assert report.contents == 2, "the audit knows the contents of both kinds as used"
