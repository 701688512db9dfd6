"""The stack for all of these tests, reached as clients reach it: over HTTP, with a key."""

from collections.abc import Iterator

import pytest

from local import stack
from local.stack import Stack
from tests.conftest import Model, model_at
from tests.wire_formats import WIRE_FORMATS, WireFormat

# The one that the service's own examples name.
DOCUMENTED = "Cohere-embed-v3-english"


@pytest.fixture(scope="package")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Stack]]:
    """Apps before the model that knows every option, one for each wire format, and one before another model."""
    settings = {name: {"FOUNDRY_ENDPOINT": spoken.path} for name, spoken in WIRE_FORMATS.items()}
    settings[DOCUMENTED] = {"FOUNDRY_MODEL": DOCUMENTED}
    for number, app in enumerate(settings.values()):
        app |= {"IMAGES_CONTAINER": f"images-{number}", "EMBEDDINGS_CONTAINER": f"embeddings-{number}"}
    logs = tmp_path_factory.mktemp("logs")
    with stack.running_together(list(settings.values()), model="embed-v-4-0", logs=logs) as started:
        yield dict(zip(settings, started, strict=True))


@pytest.fixture(scope="package", params=WIRE_FORMATS)
def spoken(request: pytest.FixtureRequest) -> str:
    """The wire format that the app speaks with the model, by its name: clients notice nothing of it."""
    name: str = request.param
    return name


@pytest.fixture(scope="package")
def wire_format(spoken: str) -> WireFormat:
    return WIRE_FORMATS[spoken]


@pytest.fixture(scope="package")
def running(apps: dict[str, Stack], spoken: str) -> Stack:
    """The app that speaks it."""
    return apps[spoken]


@pytest.fixture
def model(running: Stack) -> Iterator[Model]:
    """The model, behaving well and asked nothing yet."""
    with model_at(running.foundry_url) as seen:
        yield seen


@pytest.fixture(scope="package")
def endpoint(running: Stack) -> str:
    """What a client takes instead of https://<resource>.services.ai.azure.com/models."""
    return f"{running.functions_url}/api/models"
