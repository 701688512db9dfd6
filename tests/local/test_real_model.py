"""The demo with a real endpoint: here a second process of the stand-in, which wants a key or a caller's own token."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from local.azurite import REPO_ROOT
from local.processes import LISTENING, STARTING, Child
from tests.local.model.client import token

KEY = "s3cret"
MODEL = "Cohere-Embed-V5-Pro"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 48), colour).save(folder / f"{colour}.png")
    return folder


def model_process(log: Path, *options: str) -> Child:
    command = [sys.executable, "-m", "local.model", "--port", "0", *options]
    return Child("the model", command, log=log, cwd=REPO_ROOT, environment=dict(os.environ))


@pytest.fixture
def with_key(tmp_path: Path) -> Iterator[str]:
    process = model_process(tmp_path / "model.log", "--api-key", KEY)
    try:
        yield process.announcement(LISTENING, seconds=STARTING)
    finally:
        process.stop()


@pytest.fixture
def with_token(tmp_path: Path) -> Iterator[str]:
    process = model_process(tmp_path / "model.log")
    try:
        yield process.announcement(LISTENING, seconds=STARTING)
    finally:
        process.stop()


def calls(url: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = httpx.get(f"{url}/admin/calls").json()["calls"]
    return made


def demo(url: str, pictures: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", "demo", "--endpoint", f"{url}/providers/cohere/v2", "--model", MODEL]
    return subprocess.run(
        [*command, str(pictures)],
        cwd=REPO_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_asks_a_real_endpoint_with_the_key_of_the_environment(with_key: str, pictures: Path) -> None:
    done = demo(with_key, pictures, FOUNDRY_API_KEY=KEY)
    assert (done.returncode, done.stderr) == (0, "")
    first, *lines = done.stdout.splitlines()
    assert MODEL in first
    assert "paid for" in first
    # A word and a picture of the health check, two pictures, and three queries.
    assert len(calls(with_key)) == 7
    # Of two pictures, one of them again as a query and again with two words, and of six words.
    assert "4,008 tokens were paid for, and those of a word and a small picture to begin with." in lines
    assert KEY not in done.stdout


def test_without_a_key_it_asks_as_whoever_has_signed_in(with_token: str, pictures: Path, tmp_path: Path) -> None:
    signed_in = {"accessToken": token(), "expiresOn": "2036-01-01 00:00:00.000000", "expires_on": 2_082_758_400}
    az = tmp_path / "bin" / "az"
    az.parent.mkdir()
    az.write_text(f"#!/bin/sh\necho '{json.dumps(signed_in)}'\n")
    az.chmod(0o755)
    done = demo(with_token, pictures, FOUNDRY_API_KEY="", PATH=f"{az.parent}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "your own sign-in" in done.stdout.splitlines()[0]
    assert {call["appid"] for call in calls(with_token)} == {"the-app"}


def test_a_wrong_key_ends_the_demo_with_words(with_key: str, pictures: Path) -> None:
    done = demo(with_key, pictures, FOUNDRY_API_KEY="wrong")
    assert done.returncode == 1
    assert "(401): check FOUNDRY_ENDPOINT" in done.stderr
