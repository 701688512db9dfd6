"""How many records an export writes a second, what it takes, and how fast its parts are read.

The records are in Azurite, which shares the cores with the process that exports: it answers each read in about as much
CPU time as the export takes for a row. The queue is left out. What is measured is everything from the first listing to
the manifest.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from azure.storage.blob import BlobServiceClient, ContainerClient

from bench.figures import Figure, Measurement
from bench.machine import memory_mib
from local import azurite, identity
from local.azurite import REPO_ROOT

if TYPE_CHECKING:
    from shared.exports.report import Manifest
    from shared.storage.blobs import JsonBlobs

_ROWS = 10_000
_DIMENSIONS = 1024
_ROUNDS = 3
_CLIENT_ID = "00000000-0000-0000-0000-000000000000"
_MODEL = "Cohere-embed-v3-english"
# Rows that are read are those of a few parts, each read this often.
_READ = """
import sys, time
import pyarrow.parquet as pq
pq.read_table(sys.argv[1])
start = time.perf_counter()
rows = sum(pq.read_table(path).num_rows for _ in range(5) for path in sys.argv[1:])
print(rows / (time.perf_counter() - start))
"""
_PYTHON = REPO_ROOT / ".venv/readers/bin/python"


def _record(number: int, chance: np.random.Generator) -> bytes:
    vector = chance.standard_normal(_DIMENSIONS).astype(np.float32)
    # As the service writes numbers: the shortest that are these.
    numbers = [float(str(value)) for value in vector / np.linalg.norm(vector)]
    name = f"products/{number // 1000:04}/{number * 7919 % 10**8:08}.jpg"
    record = {
        "id": chance.bytes(32).hex(),
        "schema": 2,
        "container": "images",
        "name": name,
        "url": f"https://contoso.blob.core.windows.net/images/{name}",
        "etag": f"0x8DE{number:012X}",
        "sha256": chance.bytes(32).hex(),
        "bytes": 3_105_012,
        "media_type": "image/jpeg",
        "width": 4000,
        "height": 3000,
        "text": f"chair number {number}",
        "model": _MODEL,
        "deployment": _MODEL,
        "input_type": "document",
        "dimensions": _DIMENSIONS,
        "preparation": 3,
        "prompt_tokens": 1000,
        "total_tokens": 1000,
        "embedded_at": "2026-11-22T12:00:00Z",
        "embedding": numbers,
        "metadata": {"category": "chairs", "price": "12.50", "sku": f"B-{number}"},
    }
    return json.dumps(record, separators=(",", ":")).encode()


@contextmanager
def _storage() -> Iterator[tuple[ContainerClient, dict[str, str]]]:
    """Azurite with the records, and the app settings to reach it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        azurite.running(log=Path(folder) / "azurite.log") as emulator,
        identity.running([_CLIENT_ID]) as tokens,
        BlobServiceClient.from_connection_string(
            emulator.connection_string, connection_verify=str(emulator.ca_file)
        ) as service,
    ):
        container = service.create_container("embeddings")
        chance = np.random.default_rng(7)
        records = [_record(number, chance) for number in range(_ROWS)]

        def upload(content: bytes) -> None:
            container.upload_blob(f"{_MODEL}/images/{json.loads(content)['name']}.json", content)

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(upload, records))
        yield (
            container,
            {
                "FOUNDRY_ENDPOINT": "https://bench.services.ai.azure.com/models",
                "FOUNDRY_MODEL": _MODEL,
                "ImageStorage__blobServiceUri": emulator.blob_url,
                "ImageStorage__queueServiceUri": emulator.queue_url,
                "ImageStorage__credential": "managedidentity",
                "ImageStorage__clientId": _CLIENT_ID,
                "IDENTITY_ENDPOINT": tokens.endpoint,
                "IDENTITY_HEADER": tokens.header,
                "SSL_CERT_FILE": str(emulator.ca_file),
                "REQUESTS_CA_BUNDLE": str(emulator.ca_file),
            },
        )


@cache
def _measured() -> dict[str, Any]:
    rounds = []
    with _storage() as (container, settings):
        for _ in range(_ROUNDS):
            command = [sys.executable, "-m", "bench.exports"]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})
            rounds.append(json.loads(run.stdout))
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, path in enumerate(rounds[-1]["parts"]):
                paths.append(Path(folder) / f"{number}.parquet")
                paths[-1].write_bytes(container.download_blob(path).readall())
            read = subprocess.run([_PYTHON, "-c", _READ, *paths], check=True, stdout=subprocess.PIPE, text=True)
    return {"rounds": rounds, "read": float(read.stdout)}


def _export() -> dict[str, object]:
    """Export everything in this process, which has the app settings."""
    from shared.application import application
    from shared.exports.export import Exports
    from shared.exports.report import ExportRequest
    from shared.exports.store import ExportStore
    from shared.storage.blobs import JsonBlobs
    from shared.storage.space import Space
    from shared.uploads.record_store import RecordStore

    app = application()
    blobs = JsonBlobs(app.settings.embeddings_container, app.rest)
    space = Space(app.settings, blobs)
    no_queue = cast(Any, SimpleNamespace(send=lambda message: None))
    exports = Exports(app.settings, space, RecordStore(space, blobs, None), ExportStore(space, blobs), no_queue)
    before = memory_mib("VmRSS")
    report = exports.start(ExportRequest())
    start, cpu = time.perf_counter(), time.process_time()
    manifest: Manifest | None = None
    while manifest is None:
        exports.resume(report.id)
        manifest = _manifest(blobs, report.folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "rows_per_s": manifest.rows / seconds,
        "cpu_ms": 1000 * cpu / manifest.rows,
        "bytes_per_row": manifest.bytes / manifest.rows,
        "mib": memory_mib("VmHWM") - before,
        "parts": [f"{report.folder}/{part.name}" for part in manifest.parts],
    }


def _manifest(blobs: "JsonBlobs", folder: str) -> "Manifest | None":
    from shared.exports.report import Manifest

    return blobs.read(f"{folder}/manifest.json", Manifest)


def _of(name: str) -> list[float]:
    return [one[name] for one in _measured()["rounds"]]


def _rows_per_s() -> Measurement:
    cpu = min(_of("cpu_ms"))
    return Measurement.median(_of("rows_per_s"), f"{_ROWS:,} records, {_ROUNDS} rounds, {cpu:.2f} ms of CPU a row")


def _bytes_per_row() -> Measurement:
    return Measurement.once(_of("bytes_per_row")[0], f"{_DIMENSIONS:,} numbers, three keys of metadata")


def _memory() -> Measurement:
    return Measurement.median(_of("mib"), f"{_ROWS:,} records, {_ROUNDS} rounds")


def _read_rows_per_s() -> Measurement:
    return Measurement.once(_measured()["read"], "whole parts, by pyarrow, 5 times")


FIGURES = [
    Figure("export_rows_per_s", "rows/s", "higher", 1500, _rows_per_s),
    Figure("export_bytes_per_row", "bytes", "lower", 4400, _bytes_per_row),
    Figure("export_rss_mb", "MiB", "lower", 300, _memory),
    Figure("export_read_rows_per_s", "rows/s", "higher", 1_000_000 / 60, _read_rows_per_s),
]

if __name__ == "__main__":
    sys.stdout.write(json.dumps(_export()))
