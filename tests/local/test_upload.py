"""`make upload`: pictures for a stack that runs already."""

import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from azure.storage.blob import ContainerClient

from local import samples
from local.azurite import Azurite
from local.upload import main, storage


@pytest.fixture
def stack_file(azurite: Azurite, tmp_path: Path) -> Path:
    """What describes a stack with this storage."""
    file = tmp_path / "stack.json"
    file.write_text(
        json.dumps({"storage_connection_string": azurite.connection_string, "ca_file": str(azurite.ca_file)})
    )
    return file


@pytest.fixture
def images(azurite: Azurite) -> ContainerClient:
    service = storage(azurite.connection_string, str(azurite.ca_file))
    return service.get_container_client("images")


def test_a_folder_is_uploaded_with_what_is_below_it(
    stack_file: Path, images: ContainerClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with images:
        images.create_container()
        (tmp_path / "trip").mkdir()
        (tmp_path / "trip/a b.png").write_bytes(b"1")
        assert main(stack_file, tmp_path / "trip") == 0
        assert capsys.readouterr().out == f"1 files uploaded from {tmp_path / 'trip'}.\n"
        assert main(stack_file, None) == 0
        uploaded = {blob.name: blob.metadata for blob in images.list_blobs(include=["metadata"])}
        images.delete_container()
    for sample in samples.write(tmp_path / "samples"):
        assert unquote((uploaded[sample.name] or {}).get("text", "")) == (sample.text or "")
    assert "a b.png" in uploaded


def test_without_a_stack_or_a_file_it_says_what_to_do(
    stack_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(stack_file, tmp_path / "empty") == 1
    assert "Name a folder of pictures" in capsys.readouterr().err
    assert main(tmp_path / "nothing.json", None) == 1
    assert "make serve" in capsys.readouterr().err
