"""The examples of docs/reading.md, run against the real libraries: each gets every vector of an export bit for bit.

Libraries that are large, or need a server, are run by `make readers` alone, with as many pictures as people have.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local.azurite import REPO_ROOT
from tests.conftest import CLIENT_ID, Cloud
from tests.drawing import picture
from tests.exports.conftest import Exporting
from tests.exports.test_export import as_float32

PAGE = (REPO_ROOT / "docs/reading.md").read_text()
# What `make readers` sets.
ALL = bool(os.environ.get("ALL_READERS"))
PICTURES = 2000 if ALL else 24
# Run in the environment of the readers: the examples of one heading after the other, each behind the manifest's.
RUN = """
import json, sys
def shown(value):
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 2:
        return [row.tobytes().hex() for row in value]
    return value
found = {}
for heading, blocks in json.load(sys.stdin).items():
    space = {}
    for block in blocks:
        exec(compile(block, heading, "exec"), space)
        if "frame" in space and "gone" in space:
            space["changed"] = space["frame"]["name"].tolist()
    keys = ("names", "vectors", "nearest", "changed", "count", "record")
    found[heading] = {key: shown(space[key]) for key in keys if key in space}
print(json.dumps(found))
"""


def examples(heading: str) -> list[str]:
    """The Python under a heading of the page."""
    [section] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    blocks: list[str] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return blocks


def run(folder: Path, python: str, headings: list[str], change: Callable[[str], str], **environment: str) -> Any:
    """What the examples of these headings come to, in this folder."""
    [begin] = examples("Get the files")
    code = {heading: [begin, *map(change, examples(heading))] for heading in headings}
    # The identity that the examples find is this one.
    environment = {"AZURE_CLIENT_ID": CLIENT_ID, **environment}
    command = [str(REPO_ROOT / f".venv/{python}/bin/python"), "-W", "ignore", "-c", RUN]
    done = subprocess.run(
        command,
        input=json.dumps(code),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def embed(cloud: Cloud, numbers: range) -> None:
    """Upload small pictures with captions and metadata, and embed each."""
    sync = cloud.sync()

    def one(number: int) -> None:
        name = f"products/{number:05}{'-front' if number % 3 else ''}.png"
        colour = f"#{number * 37 % 256:02x}{number * 91 % 256:02x}{number * 53 % 256:02x}"
        cloud.upload(name, picture(colour, size=(16, 16)), text=f"chair number {number}", sku=f"B-{number}")
        assert sync.upload(name).outcome == "embedded"

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, numbers))


def download(exporting: Exporting, manifest: dict[str, Any], folder: Path) -> None:
    """What `az storage blob download-batch` does."""
    folder.mkdir()
    prefix = f"{exporting.cloud.folder}/exports/{manifest['id']}/"
    for name in ["manifest.json", *(part["name"] for kind in ("parts", "gone_parts") for part in manifest[kind])]:
        (folder / name).write_bytes(exporting.cloud.embeddings.download_blob(prefix + name).readall())


def stored(cloud: Cloud) -> dict[str, str]:
    """The vector of each record, as the bytes of its float32 numbers."""
    blobs = cloud.embeddings.list_blob_names(name_starts_with=f"{cloud.folder}/images/")
    with ThreadPoolExecutor(8) as threads:
        records = list(threads.map(lambda name: json.loads(cloud.embeddings.download_blob(name).readall()), blobs))
    return {record["name"]: as_float32(record["embedding"]) for record in records}


def test_every_example_gets_the_vectors_of_the_records_bit_for_bit_and_what_has_changed(
    exporting: Exporting, tmp_path: Path
) -> None:
    cloud = exporting.cloud
    embed(cloud, range(PICTURES))
    whole = exporting.make()
    expected = stored(cloud)
    assert whole["rows"] == len(expected) == PICTURES
    download(exporting, whole, tmp_path / "export")

    gone = sorted(expected)[:5]
    sync = cloud.sync()
    for name in gone:
        cloud.images.delete_blob(name)
        sync.upload(name)
    embed(cloud, range(PICTURES, PICTURES + 3))
    changes = exporting.make(since=datetime.fromisoformat(whole["as_of"]))
    assert changes["gone"] == 5
    download(exporting, changes, tmp_path / "changes")

    container, url = cloud.settings.embeddings_container, cloud.settings.blob_service_uri

    def here(code: str) -> str:
        """The example for Azurite, which has its account in the path, and for a container of another name."""
        host = url.removeprefix("https://")
        code = code.replace(
            'account_name=os.environ["DATA_ACCOUNT_NAME"]', f'"devstoreaccount1", account_host="{host}"'
        )
        return code.replace("abfs://embeddings/", f"abfs://{container}/").replace('"embeddings"', f'"{container}"')

    first = min(expected.keys() - set(gone))
    found = run(
        tmp_path,
        "readers",
        ["numpy and pyarrow", "pandas", "polars", "DuckDB", "One record"],
        here,
        FOLDER=f"{cloud.folder}/exports/{whole['id']}",
        DATA_ACCOUNT_NAME="devstoreaccount1",
        BLOB_URL=url,
        SPACE=cloud.folder,
        NAME=first,
    )
    assert found.pop("One record")["record"] == cloud.record(first)
    for heading, got in found.items():
        assert got["names"] == sorted(expected), heading
        assert dict(zip(got["names"], got["vectors"], strict=True)) == expected, heading
    for heading in ("numpy and pyarrow", "DuckDB"):
        assert found[heading]["nearest"][0] == sorted(expected)[0]
    assert found["pandas"]["changed"] == sorted(stored(cloud))
    assert found["DuckDB"]["count"] == PICTURES
    if ALL:
        more = run(tmp_path, "readers-more", ["FAISS, usearch", "Qdrant", "LanceDB", "pgvector"], str)
        assert [len(got["nearest"]) for got in more.values()] == [5] * 4
        assert more["FAISS, usearch"]["nearest"][0] == sorted(expected)[0]
        assert more["pgvector"]["nearest"][0] == sorted(expected)[0]


@pytest.mark.parametrize("heading", re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
def test_an_example_has_ten_lines_or_so(heading: str) -> None:
    assert all(len(block.splitlines()) <= 15 for block in examples(heading))
    for block in examples(heading):
        compile(block, heading, "exec")
