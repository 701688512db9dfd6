"""Uploads pictures to the local stack, as anyone uploads to storage: the samples, or a folder of one's own."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient, ContainerClient

from local import samples
from local.azurite import REPO_ROOT
from local.samples import Sample

SAMPLES = REPO_ROOT / ".local/samples"


class UploadError(Exception):
    """There is nothing to upload. The message says what to do."""


def main(stack_file: Path, folder: Path | None) -> int:
    """Upload a folder, or the samples, to the stack that this file describes. Returns the exit status."""
    if not stack_file.exists():
        print("No local stack is running. Start one in another terminal: make serve", file=sys.stderr)
        return 1
    try:
        stack = json.loads(stack_file.read_text())
        root, files = files_of(folder)
        with storage(stack["storage_connection_string"], stack["ca_file"]) as service:
            upload(service.get_container_client("images"), root, files, lambda done: None)
    except (UploadError, AzureError, OSError) as error:
        print(str(error) or repr(error), file=sys.stderr)
        return 1
    print(f"{len(files)} files uploaded from {root}.")
    return 0


def files_of(folder: Path | None) -> tuple[Path, list[Sample]]:
    """Every file in the folder and below, except hidden ones, or the samples; and the folder that they are in."""
    if folder is None:
        return SAMPLES, samples.write(SAMPLES)
    if not folder.is_dir():
        raise UploadError(f"{folder} is not a folder. Name a folder of pictures.")
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [Sample(name.as_posix()) for name in names if not any(part.startswith(".") for part in name.parts)]
    if not files:
        raise UploadError(f"There are no files in {folder}. Name a folder of pictures.")
    for file in files:
        if not _is_blob_name(file.name):
            message = f"{file.name!r} cannot be a blob's name: UTF-8, at most 1,024 characters. Rename the file."
            raise UploadError(message)
    return folder, files


def storage(connection_string: str, ca_file: str) -> BlobServiceClient:
    """The stack's storage account, for who has its key."""
    return BlobServiceClient.from_connection_string(connection_string, connection_verify=ca_file)


def upload(images: ContainerClient, root: Path, files: Sequence[Sample], advance: Callable[[int], None]) -> None:
    """Upload the files one after the other; `advance` is called with how many are there."""
    for done, file in enumerate(files, 1):
        # Metadata are HTTP headers: anything but ASCII is percent-encoded.
        metadata = {"text": quote(file.text)} if file.text else None
        with (root / file.name).open("rb") as content:
            images.upload_blob(file.name, content, overwrite=True, metadata=metadata)
        advance(done)


def _is_blob_name(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name) <= 1024
