"""The status and the reconcile route, as a test asks them."""

from typing import Any

import azure.functions as func
import msgspec

from shared.operations.status import Status
from tests.conftest import Cloud


def status(cloud: Cloud) -> Any:
    return msgspec.to_builtins(
        Status(
            cloud.settings,
            cloud.blobs(),
            cloud.record_store(),
            cloud.report_store(),
            cloud.index_blobs() if cloud.settings.search == "on" else None,
            cloud.reader() if cloud.settings.search == "on" else None,
            cloud.queues(),
            cloud.dead_letters(),
            cloud.quota(),
        ).read()
    )


def reconcile_request(body: bytes) -> func.HttpRequest:
    return func.HttpRequest("POST", "/api/reconcile", body=body)
