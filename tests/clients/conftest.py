"""The stack for all of these tests, reached as clients reach it: over HTTP, with a key."""

from collections.abc import Iterator

import pytest

from local import stack
from local.stack import Stack
from tests.conftest import Model, model_at


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The app before the model that knows every option."""
    with stack.running(model="embed-v-4-0", logs=tmp_path_factory.mktemp("logs")) as started:
        yield started


@pytest.fixture
def model(running: Stack) -> Iterator[Model]:
    """That model, behaving well and asked nothing yet."""
    with model_at(running.foundry_url) as seen:
        yield seen


@pytest.fixture(scope="package")
def endpoint(running: Stack) -> str:
    """What a client takes instead of https://<resource>.services.ai.azure.com/models."""
    return f"{running.functions_url}/api/models"
