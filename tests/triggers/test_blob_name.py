"""The blob trigger's binding reads names only, from the same message as Microsoft's own binding."""

from types import SimpleNamespace

import pytest
from azurefunctions.extensions.base import Datum, get_binding_registry

from shared.triggers.blob_name import BlobName, BlobNameConverter


def test_the_worker_finds_the_binding_for_blob_triggers() -> None:
    registry = get_binding_registry()
    assert registry.get("blobTrigger") is BlobNameConverter
    assert registry.check_supported_type(BlobName)
    assert BlobNameConverter.check_input_type_annotation(BlobName)
    assert not BlobNameConverter.check_input_type_annotation(bytes)
    assert not BlobNameConverter.has_implicit_output()


def test_the_names_are_read_from_the_reference() -> None:
    content = b'{"Connection": "ImageStorage", "ContainerName": "images", "BlobName": "trip/Zo\xc3\xab #1.png"}'
    blob = BlobNameConverter.decode(Datum(SimpleNamespace(content=content), "model_binding_data"), trigger_metadata={})
    assert (blob.container, blob.name) == ("images", "trip/Zoë #1.png")
    assert blob.get_sdk_type() is blob


def test_bytes_instead_of_a_reference_are_refused() -> None:
    with pytest.raises(ValueError, match=r"host\.json"):
        BlobNameConverter.decode(Datum(b"picture", "bytes"), trigger_metadata={})
