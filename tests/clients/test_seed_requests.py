"""The requests of the service's how-to for image embeddings, sent with curl: only host, key and image differ.

So does the model's name, where the app speaks a wire format in which that model does not answer.
"""

import base64
import json
import shlex
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from local.stack import Stack
from tests.clients.conftest import DOCUMENTED
from tests.conftest import PATIENCE, Model
from tests.drawing import picture
from tests.wire_formats import WireFormat

HOST = "https://<resource>.services.ai.azure.com"
SHORTENED = "iVBORw0KGgoAAAANSUh..."

WITH_KEY = f"""
    curl -X POST "{HOST}/models/images/embeddings?api-version=2024-05-01-preview"
      -H "Content-Type: application/json" -H "api-key: <key>" -d
"""
WITH_TOKEN = f"""
    curl -X POST "{HOST}/models/images/embeddings?api-version=2024-05-01-preview"
      -H "Content-Type: application/json" -H "Authorization: Bearer <token>" -d
"""
IMAGE = f"""
{{
    "model": "Cohere-embed-v3-english",
    "input": [
        {{
            "image": "data:image/png;base64,{SHORTENED}"
        }}
    ]
}}
"""
IMAGE_AND_TEXT = f"""
{{
    "model": "Cohere-embed-v3-english",
    "input": [
        {{
            "image": "data:image/png;base64,{SHORTENED}",
            "text": "A photo of a cat"
        }}
    ]
}}
"""
DOCUMENT = f"""
{{
    "model": "Cohere-embed-v3-english",
    "input": [
        {{
            "image": "data:image/png;base64,{SHORTENED}"
        }}
    ],
    "input_type": "document"
}}
"""
QUERY = DOCUMENT.replace('"document"', '"query"')
BODIES = {"image": IMAGE, "image and text": IMAGE_AND_TEXT, "document": DOCUMENT, "query": QUERY}


@dataclass(frozen=True)
class Asked:
    """An app, its model, and how many numbers are in that model's vectors."""

    app: Stack
    model: str
    length: int


@pytest.fixture(scope="module")
def asked(apps: dict[str, Stack], spoken: str) -> Asked:
    if spoken == "foundry":
        return Asked(apps[DOCUMENTED], DOCUMENTED, 1024)
    return Asked(apps[spoken], "embed-v-4-0", 1536)


def send(asked: Asked, command: str, body: str) -> tuple[int, Any]:
    """Run the command with another host, key and image. The key goes where a functions app looks for its own."""
    running, body = asked.app, body.replace(DOCUMENTED, asked.model)
    command = command.replace(HOST, f"{running.functions_url}/api")
    if "<key>" in command:
        command = command.replace("api-key: <key>", f"x-functions-key: {running.functions_key}")
    else:
        command = command.replace("?api-version", f"?code={running.functions_key}&api-version")
    body = body.replace(SHORTENED, base64.b64encode(picture("sandybrown", (224, 224))).decode())
    run = subprocess.run(
        [*shlex.split(command), body, "--silent", "--show-error", "--noproxy", "*", "-w", "\n%{http_code}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert run.returncode == 0, run.stderr
    answer, _, status = run.stdout.rpartition("\n")
    return int(status), json.loads(answer)


@pytest.mark.parametrize("command", [WITH_KEY, WITH_TOKEN], ids=["key", "token"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_the_answer_is_as_documented(asked: Asked, command: str, body: str) -> None:
    status, answer = send(asked, command, body)
    assert status == 200
    assert answer.keys() == {"id", "object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", asked.model)
    [item] = answer["data"]
    assert (item["index"], item["object"], len(item["embedding"])) == (0, "embedding", asked.length)
    assert {type(number) for number in item["embedding"]} == {float}
    assert answer["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}


def test_the_model_is_asked_the_same(asked: Asked, model: Model, wire_format: WireFormat) -> None:
    send(asked, WITH_KEY, IMAGE_AND_TEXT.replace("a cat", "another cat"))
    send(asked, WITH_KEY, DOCUMENT.replace('"image":', '"text": "a third cat", "image":'))
    types = wire_format.input_types
    # The service's own default is `text`; a question to this app is a query unless it says otherwise.
    assert [(call["text"], call["input_type"], call["width"], call["height"]) for call in model.calls()] == [
        ("A photo of another cat", types["query"], 224, 224),
        ("a third cat", types["document"], 224, 224),
    ]


def test_an_option_that_this_model_does_not_have_is_422(asked: Asked) -> None:
    status, answer = send(asked, WITH_KEY, IMAGE.replace('"model"', '"dimensions": 100,\n    "model"'))
    assert (status, answer["error"]["code"]) == (422, "parameter_not_supported")
    assert answer["error"]["target"] == "dimensions"
