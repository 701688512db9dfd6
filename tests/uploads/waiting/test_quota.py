"""What processes tell each other of the quota, and the tokens of a day that they count together."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import msgspec
import pytest

from shared.errors import NotSent, Paused, StorageError
from shared.storage.blobs import JsonBlobs
from shared.triggers import routes
from shared.uploads.requests import EmbeddingRequest
from shared.uploads.waiting.quota import QuotaState
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.operations.asking import status
from tests.queue_messages import length, queued, queued_names, turns


def ask(cloud: Cloud) -> func.HttpResponse:
    """A text query."""
    request = func.HttpRequest("POST", "/", body=b'{"input": ["a word"]}', headers={"content-type": "application/json"})
    return routes.text_embeddings(request, cloud.settings, cloud.queries())


def stored(cloud: Cloud) -> dict[str, Any]:
    found: dict[str, Any] = cloud.stored("quota.json") or {}
    return found


@pytest.mark.usefixtures("clock")
@pytest.mark.either_format
def test_an_upload_that_finds_the_quota_spent_elsewhere_waits_without_a_download_or_a_call(cloud: Cloud) -> None:
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    cloud.upload("a.png", picture())
    cloud.upload("b.png", picture("blue"))
    # Two processes: the second has made no call.
    assert cloud.sync().upload("a.png").outcome == "deferred"
    report = cloud.sync().upload("b.png")
    assert (report.outcome, report.code) == ("deferred", "quota_spent")
    assert "download" not in report.ms
    assert len(cloud.model.calls()) == 1
    assert queued_names(cloud, cloud.waiting) == ["a.png", "b.png"]
    assert length(cloud.backlog) == 0
    # One dispatcher for both, and nothing else that would start an instance.
    assert turns(cloud) == [1]
    assert length(cloud.queue) == 1


def test_what_needs_no_model_is_done_while_the_quota_is_spent(cloud: Cloud) -> None:
    sync, quota = cloud.sync(), cloud.quota()
    for name in ("gone.png", "same.png"):
        cloud.upload(name, picture())
        sync.upload(name)
    cloud.images.delete_blob("gone.png")
    quota.refused(60)
    other = cloud.sync()
    assert other.upload("gone.png").outcome == "removed"
    assert other.upload("same.png").outcome == "unchanged"


def test_a_request_that_has_to_wait_goes_back_where_it_came_from_and_no_attempt_is_counted(cloud: Cloud) -> None:
    cloud.quota().refused(60)
    for number, origin in enumerate(("waiting", "backlog", None)):
        cloud.upload(f"{number}.png", picture())
        cloud.sync().request(
            msgspec.convert({"name": f"{number}.png", "attempt": 3, "origin": origin}, EmbeddingRequest)
        )
    assert queued_names(cloud, cloud.waiting) == ["0.png", "2.png"]
    assert queued_names(cloud, cloud.backlog) == ["1.png"]
    for message in [*queued(cloud, cloud.waiting), *queued(cloud, cloud.backlog)]:
        assert message["attempt"] == 3
        assert "origin" not in message


def test_an_upload_waits_behind_those_that_wait_already_but_not_what_a_dispatcher_sent(cloud: Cloud) -> None:
    quota = cloud.quota()
    quota.change(lambda state: msgspec.structs.replace(state, fresh_waits=True, due=datetime.now(UTC).timestamp() + 9))
    assert isinstance(quota.why_wait(behind_others=True), NotSent)
    assert quota.why_wait(behind_others=False) is None
    quota.change(lambda state: msgspec.structs.replace(state, due=0.0))
    assert quota.why_wait(behind_others=True) is None


def test_refusals_of_calls_that_were_in_flight_together_are_one(cloud: Cloud) -> None:
    quotas = [cloud.quota() for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda quota: quota.refused(30), quotas * 2))
    assert stored(cloud)["refusals"] == 1
    quotas[0].refused(60)
    assert stored(cloud)["refusals"] == 2


def test_a_deployment_for_queries_alone_says_nothing_of_the_quota_of_the_pictures(cloud: Cloud) -> None:
    cloud = cloud.with_settings(FOUNDRY_MODEL="embed-v-4-0", FOUNDRY_QUERY_MODEL="queries")
    documents, queries = cloud.model_clients()
    assert documents._quota is not None
    assert queries._quota is not None
    queries._quota.refused(60)
    assert stored(cloud) == {}


def test_what_storage_does_not_tell_holds_nobody_up(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("Storage answered 503.", status=503)

    monkeypatch.setattr(JsonBlobs, "read_version", fail)
    quota = cloud.with_settings(DAILY_TOKEN_LIMIT="1000").quota()
    quota.check()
    quota.refused(60)
    quota.answered(10)
    assert quota.why_wait(behind_others=True) is None


def test_a_blob_that_is_not_as_the_app_writes_it_is_replaced(cloud: Cloud) -> None:
    cloud.space().folder()
    cloud.embeddings.upload_blob(f"{cloud.folder}/quota.json", b"words")
    cloud.quota().refused(60)
    assert stored(cloud)["refusals"] == 1


@pytest.mark.either_format
def test_the_tokens_of_a_day_are_counted_across_processes_queries_included(cloud: Cloud) -> None:
    cloud = cloud.with_settings(DAILY_TOKEN_LIMIT="1000000")
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        cloud.upload(name, picture(size=(20 + number, 20)))
    with ThreadPoolExecutor(6) as threads:
        reports = list(threads.map(lambda name: cloud.sync().upload(name), names))
    assert stored(cloud)["tokens"] == sum(report.total_tokens or 0 for report in reports)
    before = stored(cloud)["tokens"]
    tokens = msgspec.json.decode(ask(cloud).get_body())["usage"]["total_tokens"]
    assert tokens > 0
    assert stored(cloud)["tokens"] == before + tokens


def test_without_a_limit_nothing_is_counted_and_nothing_is_written(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    assert stored(cloud) == {}


@pytest.mark.parametrize("limit", ["1000", "0"])
def test_at_the_daily_limit_uploads_wait_and_queries_are_refused_with_the_time(
    cloud: Cloud, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = cloud.with_settings(DAILY_TOKEN_LIMIT=limit)
    if limit != "0":
        cloud.upload("first.png", picture())
        assert cloud.sync().upload("first.png").outcome == "embedded"
    calls = len(cloud.model.calls())
    cloud.upload("a.png", picture("blue"))
    report = cloud.sync().upload("a.png")
    assert (report.outcome, report.code) == ("deferred", "paused")
    assert queued_names(cloud, cloud.waiting) == ["a.png"]
    # No dispatcher is asked for before there is something that it may do.
    assert length(cloud.queue) == 0
    answer = ask(cloud)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 300
    message = msgspec.json.decode(answer.get_body())["error"]["message"]
    assert ("DAILY_TOKEN_LIMIT is 0" if limit == "0" else "T00:00Z") in message
    assert len(cloud.model.calls()) == calls
    # status and the line of the watch, which an alert reads, say so.
    assert "DAILY_TOKEN_LIMIT" in status(cloud)["quota"]["paused"]
    caplog.set_level(logging.INFO, "image_embeddings")
    assert "DAILY_TOKEN_LIMIT" in (cloud.watch()().paused or "")
    assert length(cloud.queue) == 0


def test_on_the_next_day_what_waits_is_asked_for(cloud: Cloud, clock: Clock) -> None:
    cloud = cloud.with_settings(DAILY_TOKEN_LIMIT="1000")
    cloud.quota().answered(1000)
    quota = cloud.quota()
    with pytest.raises(Paused) as paused:
        quota.check()
    assert 0 < (paused.value.retry_after or 0) <= 24 * 3600
    cloud.request_queue(quota).park(EmbeddingRequest(name="a.png"))
    assert turns(cloud) == []
    clock.pass_(24 * 3600)
    quota.check()
    cloud.request_queue().ask_if_any()
    assert turns(cloud) == [1]


def test_a_raised_limit_counts_at_once(cloud: Cloud) -> None:
    cloud.with_settings(DAILY_TOKEN_LIMIT="1000").quota().answered(1000)
    cloud.with_settings(DAILY_TOKEN_LIMIT="1001").quota().check()


def test_health_checks_ask_for_a_word_at_the_daily_limit_too(cloud: Cloud) -> None:
    assert cloud.with_settings(DAILY_TOKEN_LIMIT="0").checks().run_now() == []


def test_the_state_has_defaults_for_all_that_an_older_version_did_not_write() -> None:
    assert msgspec.json.decode(b"{}", type=QuotaState) == QuotaState()
