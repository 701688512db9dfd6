"""The status route, and how the reconcile route reads requests and answers them."""

import json
from contextlib import suppress
from typing import Any

import azure.functions as func
import msgspec
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import QueueServiceClient

from shared import __version__
from shared.audit.reconcile import ReconcileRequest
from shared.audit.report import AuditReport
from shared.clock import now
from shared.errors import StorageError
from shared.triggers import routes
from shared.uploads.requests import EmbeddingRequest
from tests.audit.audits import audit, drain, embed
from tests.conftest import Cloud
from tests.operations.asking import reconcile_request, status


def test_a_new_app_has_an_empty_status(cloud: Cloud) -> None:
    state = status(cloud)
    assert state.pop("queues").keys() == {
        "embedding-requests",
        "embedding-requests-poison",
        "embedding-waiting",
        "embedding-backlog",
        "webjobs-blobtrigger-poison",
    }
    assert state == {
        "version": __version__,
        "model": "Cohere-embed-v3-english",
        "space": "Cohere-embed-v3-english",
        "images_url": cloud.images.url,
        "index": {"segments": 0, "rows": 0, "log_bytes": 0, "room_for_images": None},
        "failures": {"total": 0, "by_code": {}, "complete": True},
        "dead_letters": {"requeued": 0, "unreadable": 0, "waiting": 0},
        "quota": {
            "spent_until": None,
            "calls_a_second": None,
            "dispatching": False,
            "daily_token_limit": None,
            "tokens_today": None,
            "paused": None,
        },
        "last_audit": None,
        "running_audit": None,
        "spaces": [],
    }


def test_the_status_has_queue_lengths_failures_and_the_last_audit(cloud: Cloud) -> None:
    embed(cloud, "a.png")
    for name in ("page.png", "words.png"):
        cloud.upload(name, b"no picture")
        cloud.sync().upload(name)
    cloud.upload("empty.png", b"")
    cloud.sync().upload("empty.png")
    report = audit(cloud)
    cloud.request_queue().send(EmbeddingRequest(name="b.png"))
    cloud.request_queue().put_later(EmbeddingRequest(name="c.png"), 60)
    state = status(cloud)
    # The second is the dispatcher, which sees to what waits.
    assert state["queues"]["embedding-requests"] == 2
    assert state["queues"]["embedding-waiting"] == 1
    assert state["quota"]["dispatching"] is True
    assert state["failures"] == {"total": 3, "by_code": {"not_an_image": 2, "empty": 1}, "complete": True}
    assert state["last_audit"] == msgspec.to_builtins(report)


def test_the_status_lists_the_spaces_and_how_complete_each_is(cloud: Cloud) -> None:
    embed(cloud, "a.png", "b.png")
    audit(cloud)
    new = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0", EMBEDDING_DIMENSIONS="512")
    audit(new)
    spaces = {space["space"]: space for space in status(new)["spaces"]}
    assert {name: (one["in_use"], one["current"], one["images"]) for name, one in spaces.items()} == {
        "Cohere-embed-v3-english": (False, 2, 2),
        "embed-v-4-0-512": (True, 0, 2),
    }
    drain(new)
    audit(new)
    assert status(new)["spaces"][1]["current"] == 2


def answer(body: bytes, report: AuditReport | None = None) -> tuple[func.HttpResponse, list[ReconcileRequest]]:
    requested: list[ReconcileRequest] = []

    def start(request: ReconcileRequest) -> AuditReport:
        requested.append(request)
        return report or AuditReport(started_at=now(), finished_at=now())

    return routes.reconcile(reconcile_request(body), start), requested


def test_without_a_body_everything_is_audited() -> None:
    response, requested = answer(b"")
    assert (response.status_code, requested) == (200, [ReconcileRequest()])


def test_an_unfinished_audit_is_a_202() -> None:
    response, _ = answer(b"{}", AuditReport(started_at=now(), reached="m"))
    assert response.status_code == 202
    assert json.loads(response.get_body())["reached"] == "m"


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b'{"prefix": 1}', "prefix"),
        (b'{"dry_run": "yes"}', "dry_run"),
        (b'{"refresh": 1}', "refresh"),
        (b'{"retry_failures": ["broken"]}', "retry_failures[0]"),
        (b'{"folder": "a"}', None),
        (b"prefix=a", None),
        (b'{"prefix": "a\\u0000"}', "prefix"),
        (b'{"prefix": "' + b"x" * 901 + b'"}', "prefix"),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_field(body: bytes, target: str | None) -> None:
    response, requested = answer(body)
    error = json.loads(response.get_body())["error"]
    assert (response.status_code, error.get("target"), requested) == (400, target, [])


def failing(*_: object) -> Any:
    raise StorageError("the connection was refused")


def test_failing_storage_is_a_503_that_says_so() -> None:
    for response in (routes.reconcile(reconcile_request(b""), failing), routes.status(failing)):
        error = json.loads(response.get_body())["error"]
        assert (response.status_code, error["code"]) == (503, "storage_unavailable")
        assert "refused" in error["message"]


def test_the_status_counts_waiting_uploads_if_the_host_s_account_is_known(cloud: Cloud) -> None:
    uri = cloud.settings.queue_service_uri
    known = cloud.with_settings(AzureWebJobsStorage__queueServiceUri=uri)
    connection = QueueServiceClient(uri, credential=cloud.app_identity().credential)
    with connection, suppress(ResourceExistsError):
        connection.create_queue("azure-webjobs-blobtrigger-contoso")
    assert status(known)["queues"]["azure-webjobs-blobtrigger-contoso"] == 0
