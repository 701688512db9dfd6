"""The binding of the blob trigger: it carries the name of a blob, without its bytes and without a client for it.

Microsoft's own binding (``azurefunctions-extensions-bindings-blob``) creates a storage client with its own credential
for each invocation, and imports the storage SDK at every start. This one is built on the same base package and reads
only the names from the same message.
"""

from collections.abc import Mapping

import msgspec
from azurefunctions.extensions.base import Datum, InConverter, SdkType


class BlobName(SdkType):
    """The names of a blob and of its container."""

    def __init__(self, container: str, name: str) -> None:
        super().__init__()
        self.container = container
        self.name = name

    def get_sdk_type(self) -> "BlobName":
        """Itself: the names are all that the trigger needs."""
        return self


class _Reference(msgspec.Struct, rename="pascal"):
    """The host's reference to a blob."""

    container_name: str
    blob_name: str


class BlobNameConverter(InConverter, binding="blob", trigger="blobTrigger"):
    """Reads a :class:`BlobName` from the host's message. The worker finds this class by the names of the bindings."""

    @classmethod
    def check_input_type_annotation(cls, pytype: type) -> bool:
        """Whether a parameter of this type can be bound."""
        return issubclass(pytype, BlobName)

    @classmethod
    def decode(cls, data: Datum, *, trigger_metadata: Mapping[str, Datum], pytype: type = BlobName) -> BlobName:
        """The names; raises ``ValueError`` if the host sends the blob itself."""
        if data.type != "model_binding_data":
            raise ValueError(
                f"The host sent the blob as {data.type!r} instead of its name; host.json must use extension bundle 4."
            )
        reference = msgspec.json.decode(data.value.content, type=_Reference)
        return BlobName(reference.container_name, reference.blob_name)

    @classmethod
    def has_implicit_output(cls) -> bool:
        """Whether the binding has an implicit output: no."""
        return False
