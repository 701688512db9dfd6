"""docs/millions.md says how vectors that were paid for elsewhere are brought along: then the model is not called."""

import re
from typing import Any

import pytest

from local.azurite import REPO_ROOT
from tests.conftest import CLIENT_ID, Cloud
from tests.drawing import picture

PAGE = (REPO_ROOT / "docs/millions.md").read_text()


def example(heading: str, cloud: Cloud) -> str:
    """The first Python under a heading, for the containers of this test."""
    code: str = re.findall(rf"{re.escape(heading)}\n.*?```python\n(.*?)```", PAGE, re.DOTALL)[0]
    code = code.replace('"embeddings"', f'"{cloud.settings.embeddings_container}"')
    return code.replace('"images"', f'"{cloud.settings.images_container}"')


@pytest.fixture(autouse=True)
def found_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity that the examples find."""
    monkeypatch.setenv("AZURE_CLIENT_ID", CLIENT_ID)


@pytest.mark.either_format
def test_a_picture_whose_vector_was_brought_along_is_not_sent_to_the_model(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOB_URL", cloud.settings.blob_service_uri)
    monkeypatch.setenv("SPACE", cloud.folder)
    monkeypatch.setenv("PREPARATION", str(cloud.preparation))
    space: dict[str, Any] = {}
    exec(example("### Vectors that you have paid for", cloud), space)
    vector = [0.25, -0.5, 1.0]
    for text in (None, 'a "red" ch\u00e4ir'):
        space["seed"](picture(), text, vector, "image/png", 80, 60)
    space["embeddings"].close()
    cloud.upload("a.png", picture())
    cloud.upload("b.png", picture(), text="a%20%22red%22%20ch%C3%A4ir")
    sync = cloud.sync()
    for name in ("a.png", "b.png"):
        assert sync.upload(name).outcome == "copied"
        assert (cloud.record(name)["embedding"], cloud.record(name)["width"]) == (vector, 80)
    assert cloud.model.calls() == []


def test_captions_from_a_list_are_those_of_the_pictures(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("BLOB_URL", cloud.settings.blob_service_uri)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.csv").write_text("name,text,sku\na.png,a ch\u00e4ir,B-1\nb.png,,B-2\n")
    for name in ("a.png", "b.png"):
        cloud.upload(name, picture())
    space: dict[str, Any] = {}
    exec(example("a few hundred a second:", cloud), space)
    space["images"].close()
    assert space["done"] == 2
    for name, text, sku in (("a.png", "a ch\u00e4ir", "B-1"), ("b.png", None, "B-2")):
        cloud.sync().upload(name)
        assert (cloud.record(name)["text"], cloud.record(name)["metadata"]) == (text, {"sku": sku})
