"""Runs the examples of clients that are too large to install for the tests, and writes down what they send.

    .venv/bin/python -m tests.clients.record <python> [package …]

`<python>` is one that has the packages.
"""

import base64
import hashlib
import http.server
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

from local import stack
from tests.clients.documented import Example, environment, examples, photograph

FOLDER = Path(__file__).parent / "recorded"
PACKAGES = ("llama-index-embeddings-openai-like", "litellm", "haystack-ai")
KEY, PICTURE = "<key>", "<bike.jpg>"
# What decides how the app answers, and who asks.
_HEADERS = ("content-type", "extra-parameters", "user-agent", "x-functions-key")


def digest(example: Example) -> str:
    """What tells whether an example was changed since it was recorded."""
    return hashlib.sha256(example.code.encode()).hexdigest()


def example_of(package: str) -> Example:
    [example] = [one for one in examples("python", "clients.md") if one.package == package]
    return example


class _Recorder(http.server.BaseHTTPRequestHandler):
    """Passes each request on to the app, and keeps it."""

    app: str
    key: str
    picture: str
    requests: list[dict[str, Any]]

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: self.headers[name] for name in _HEADERS if name in self.headers}
        answer = httpx.request(self.command, self.app + self.path, headers=headers, content=body, timeout=60)
        url = urlsplit(self.path)
        if headers.get("x-functions-key") == self.key:
            headers["x-functions-key"] = KEY
        self.requests.append(
            {
                "method": self.command,
                "path": url.path,
                "query": dict(parse_qsl(url.query)),
                "headers": headers,
                "body": json.loads(body.decode().replace(self.picture, PICTURE)),
            }
        )
        self.send_response(answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _pass_on  # noqa: N815 - so the library calls them

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def record(python: str, package: str, app: stack.Stack) -> None:
    """Run a package's example, and write what it sent."""
    example = example_of(package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _Recorder.app, _Recorder.key, _Recorder.requests = app.functions_url, app.functions_key, []
        _Recorder.picture = base64.b64encode(photograph(folder).read_bytes()).decode()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Recorder)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        expected = {**environment(app, folder), "APP": f"http://127.0.0.1:{server.server_port}"}
        said = subprocess.run([python, "-c", example.code], cwd=folder, env=expected, check=True, capture_output=True)
        server.shutdown()
    versions = subprocess.run([python, "-m", "pip", "show", package], check=True, capture_output=True, text=True)
    [version] = [line.split()[1] for line in versions.stdout.splitlines() if line.startswith("Version:")]
    kept = {"package": package, "version": version, "example": digest(example), "requests": _Recorder.requests}
    (FOLDER / f"{package}.json").write_text(json.dumps(kept, indent=1) + "\n")
    sys.stdout.write(f"{package} {version}: {len(_Recorder.requests)} requests\n{said.stdout.decode()}")


if __name__ == "__main__":
    with stack.running(model="embed-v-4-0") as started:
        for chosen in sys.argv[2:] or PACKAGES:
            record(sys.argv[1], chosen, started)
