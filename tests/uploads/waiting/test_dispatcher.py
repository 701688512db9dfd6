"""One dispatcher works off what waits, fresh uploads first, and is found again where it gets lost."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from local.processes import wait_until
from shared.audit.reconcile import ReconcileRequest
from shared.errors import StorageError
from shared.storage.queues import Queues
from shared.uploads.report import ImageReport
from shared.uploads.requests import EmbeddingRequest
from shared.uploads.sync import Sync
from shared.uploads.waiting import dispatcher
from shared.uploads.waiting.dispatcher import PLACES, DispatchReport
from shared.uploads.waiting.pace import Pace
from shared.uploads.waiting.quota import QuotaState
from tests.conftest import PATIENCE, Cloud
from tests.drawing import picture
from tests.queue_messages import length, queued, queued_names, turns


def leave(cloud: Cloud, *names: str, origin: str = "waiting") -> None:
    """Upload images and leave requests for them where they wait, with nobody asked to work them off."""
    for name in names:
        cloud.upload(name, picture(size=(20 + len(name), 20 + int.from_bytes(name[:1].encode()))))
        cloud.request_queue().leave(msgspec.convert({"name": name, "origin": origin}, EmbeddingRequest))


def work(cloud: Cloud) -> list[DispatchReport]:
    """Have dispatchers work as long as one asks for the next at once."""
    cloud.request_queue().ask_if_any()
    reports = []
    while found := turns(cloud):
        cloud.queue.clear_messages()
        reports += [report for turn in found if (report := cloud.dispatcher().run(turn)) is not None]
    return reports


def state(cloud: Cloud) -> QuotaState:
    return msgspec.convert(cloud.stored("quota.json"), QuotaState)


@contextmanager
def syncing(monkeypatch: pytest.MonkeyPatch, each: Callable[[EmbeddingRequest], ImageReport]) -> Iterator[None]:
    """What a dispatcher does with an image, in place of the app's own ``Sync``."""
    with monkeypatch.context() as patch:
        patch.setattr(Sync, "request", lambda _, request: each(request))
        yield


def embedded(request: EmbeddingRequest) -> ImageReport:
    return ImageReport(name=request.name, outcome="embedded", total_tokens=1000)


@pytest.mark.either_format
def test_what_waits_is_embedded_and_then_the_dispatcher_ends(cloud: Cloud) -> None:
    leave(cloud, "a.png", "bb.png")
    leave(cloud, "ccc.png", origin="backlog")
    [*_, last] = work(cloud)
    assert last.outcome == "finished"
    assert all(cloud.record(name) for name in ("a.png", "bb.png", "ccc.png"))
    assert [length(queue) for queue in (cloud.queue, cloud.waiting, cloud.backlog)] == [0, 0, 0]
    assert (state(cloud).due, state(cloud).is_dispatched) == (0, False)


def test_fresh_uploads_come_first(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def sync(request: EmbeddingRequest) -> ImageReport:
        seen.append(request.name)
        if len(seen) == 2:
            # In the middle of a backlog.
            leave(cloud, "fresh.png")
        return embedded(request)

    leave(cloud, *"abcdefghijkl", origin="backlog")
    leave(cloud, "first.png")
    with syncing(monkeypatch, sync):
        work(cloud)
    assert seen[0] == "first.png"
    # What was taken before it came is a second's worth at most.
    assert seen.index("fresh.png") < 2 + 8
    assert sorted(seen) == sorted([*"abcdefghijkl", "first.png", "fresh.png"])


def test_it_knows_where_an_image_came_from_and_what_must_wait_goes_back_there(cloud: Cloud) -> None:
    leave(cloud, "a.png")
    leave(cloud, "b.png", origin="backlog")
    cloud.model.behave(throttle={"calls": 0, "window_s": 60})
    reports = work(cloud)
    assert queued_names(cloud, cloud.waiting) == ["a.png"]
    assert queued_names(cloud, cloud.backlog) == ["b.png"]
    # Nothing is held in an invocation: the next turn waits on the queue, and nobody asks for another meanwhile.
    assert 30 < (reports[-1].next_in or 0) <= 60
    assert sum(report.ms["total"] for report in reports) < 30_000
    cloud.request_queue().ask()
    assert (turns(cloud), length(cloud.queue)) == ([], 1)


def test_a_turn_that_has_passed_does_nothing_and_of_two_dispatchers_one_works(cloud: Cloud) -> None:
    leave(cloud, "a.png")
    cloud.request_queue().ask()
    [turn] = turns(cloud)
    assert cloud.dispatcher().run(turn - 1) is None
    assert cloud.dispatcher().run(turn + 1) is None
    done: list[DispatchReport | None] = []
    threads = [threading.Thread(target=lambda: done.append(cloud.dispatcher().run(turn))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([report for report in done if report is not None]) == 1
    assert cloud.dispatcher().run(turn) is None


def test_a_dispatcher_that_is_at_work_is_not_asked_for_again_and_one_that_is_lost_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = cloud.request_queue()
    for _ in range(3):
        requests.park(EmbeddingRequest(name="a.png"))
    assert turns(cloud) == [1]
    cloud.queue.clear_messages()
    assert cloud.watch()() is not None
    assert turns(cloud) == []
    monkeypatch.setattr("shared.uploads.waiting.quota.LOST_AFTER", -PATIENCE)
    cloud.watch()()
    assert turns(cloud) == [2]


def test_the_watch_asks_for_a_dispatcher_only_if_anything_waits(cloud: Cloud) -> None:
    cloud.watch()()
    assert length(cloud.queue) == 0
    cloud.request_queue().leave(EmbeddingRequest(name="a.png"))
    cloud.watch()()
    assert turns(cloud) == [1]


def test_what_is_left_while_a_dispatcher_ends_is_not_forgotten(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(cloud, "a.png")
    lengths = Queues.length

    def at_the_last_moment(queues: Queues, queue: str) -> int:
        found = lengths(queues, queue)
        if queue == queues.backlog and not found:
            monkeypatch.setattr(Queues, "length", lengths)
            # Whoever parks this sees a dispatcher at work.
            leave(cloud, "late.png")
            cloud.request_queue().ask()
        return found

    cloud.request_queue().ask()
    [turn] = turns(cloud)
    monkeypatch.setattr(Queues, "length", at_the_last_moment)
    cloud.dispatcher().run(turn)
    assert max(turns(cloud)) > turn


def test_a_turn_hands_over_to_the_next_and_ends_when_that_begins(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_TURN_SECONDS", 0.0)
    leave(cloud, *(f"{number}.png" for number in range(40)), origin="backlog")
    first = threading.Event()
    began: list[Any] = []

    def sync(request: EmbeddingRequest) -> ImageReport:
        if not first.is_set():
            first.set()
            wait_until(lambda: len(turns(cloud)) == 2, seconds=PATIENCE)
            # The successor begins while this one is at work.
            began.append(state(cloud).turn)
            cloud.quota().change(lambda before: msgspec.structs.replace(before, turn=before.turn + 1))
        return embedded(request)

    cloud.request_queue().ask()
    [turn] = turns(cloud)
    with syncing(monkeypatch, sync):
        report = cloud.dispatcher().run(turn)
    assert began == [turn + 1]
    assert report is not None
    assert (report.outcome, report.next_in) == ("goes_on", None)
    # It released what it had taken, and sent no second message.
    assert turns(cloud) == [turn, turn + 1]
    assert length(cloud.backlog) > 0


def test_images_that_are_to_be_tried_later_start_no_instance_and_are_tried_when_they_are_due(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.uploads.requests._wait", lambda *_: 2.0)
    cloud.model.behave(fault={"kind": "503"})
    cloud.upload("a.png", picture())
    assert cloud.sync().upload("a.png").code == "model_unavailable"
    # The image is hidden where no trigger looks, and so is the dispatcher's message.
    assert (queued(cloud), queued(cloud, cloud.waiting)) == ([], [])
    assert (length(cloud.queue), length(cloud.waiting)) == (1, 1)
    cloud.model.behave()
    assert wait_until(lambda: bool(turns(cloud)), seconds=PATIENCE)
    assert wait_until(lambda: bool(work(cloud)) and cloud.record("a.png") is not None, seconds=PATIENCE)


def test_an_upload_wakes_a_dispatcher_that_only_waits_for_what_is_not_due(cloud: Cloud) -> None:
    requests = cloud.request_queue()
    requests.put_later(EmbeddingRequest(name="later.png", attempt=1), 100)
    assert (turns(cloud), state(cloud).idle) == ([], True)
    requests.put_later(EmbeddingRequest(name="even later.png", attempt=1), 3000)
    assert state(cloud).turn == 1
    requests.park(EmbeddingRequest(name="a.png"))
    assert turns(cloud) == [2]
    assert not state(cloud).idle


def test_a_model_that_fails_again_and_again_stops_it_for_a_while(cloud: Cloud) -> None:
    cloud.model.behave(fault={"kind": "unauthorized"})
    leave(cloud, *(f"{number}.png" for number in range(40)), origin="backlog")
    [report] = work(cloud)
    assert report.deferred < 30
    assert 20 <= (report.next_in or 0) <= 30
    assert length(cloud.backlog) == 40


def test_it_gives_way_when_calls_of_other_processes_are_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(cloud, *(f"{number}.png" for number in range(60)), origin="backlog")
    monkeypatch.setattr("shared.uploads.waiting.quota._TTL", 0.0)

    def sync(request: EmbeddingRequest) -> ImageReport:
        if request.name == "5.png":
            cloud.quota().refused(40)
        return embedded(request)

    with syncing(monkeypatch, sync):
        [report] = work(cloud)
    assert report.embedded < 60
    assert 20 < (report.next_in or 0) <= 40
    assert 0 < state(cloud).rate < 10


@pytest.mark.parametrize("share", ["0.25", "1"])
def test_the_backlog_uses_the_share_that_is_set(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, share: str) -> None:
    cloud = cloud.with_settings(BACKLOG_SHARE=share)
    cloud.quota().change(lambda before: msgspec.structs.replace(before, rate=8.0, patience=1200.0))
    leave(cloud, *(f"{number}.png" for number in range(9)), origin="backlog")
    with syncing(monkeypatch, embedded):
        start = time.monotonic()
        work(cloud)
    took = time.monotonic() - start
    # At least: a busy machine takes longer.
    assert took > (9 - 2) / 8 / float(share)


def test_what_one_process_cannot_do_goes_to_the_trigger(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = cloud.with_settings(FOUNDRY_CONCURRENCY="1")
    cloud.quota().change(lambda before: msgspec.structs.replace(before, rate=60.0, patience=1200.0))
    leave(cloud, *(f"{number}.png" for number in range(80)), origin="backlog")

    def slow(request: EmbeddingRequest) -> ImageReport:
        time.sleep(0.5)
        return embedded(request)

    cloud.request_queue().ask()
    [turn] = turns(cloud)
    monkeypatch.setattr(dispatcher, "_OVERTIME", -57.0)
    with syncing(monkeypatch, slow):
        report = cloud.dispatcher().run(turn)
    assert report is not None
    assert report.moved > 0
    moved = [message for message in queued(cloud) if "name" in message]
    assert {message["origin"] for message in moved} == {"backlog"}


def test_no_more_goes_to_the_trigger_than_the_instances_have_places_for_that_it_takes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(cloud, *(f"{number}.png" for number in range(20)), origin="backlog")
    turn = dispatcher._Turn(1, 0, Pace(60.0, 1200.0, 1.0), ends_at=0.0, fresh=False)
    # There was room for ten calls more than the forty that were made: a quarter of an instance.
    monkeypatch.setattr(Pace, "missed", lambda _: 10)
    for _ in range(2):
        cloud.dispatcher()._move_surplus(turn, 40)
        assert length(cloud.queue) == PLACES / 4
    turn.idle_threads = 1
    cloud.queue.clear_messages()
    cloud.dispatcher()._move_surplus(turn, 40)
    assert length(cloud.queue) == 0, "where a thread is free, none is missed"


def test_more_goes_to_the_trigger_than_storage_gives_at_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(cloud, *(f"{number}.png" for number in range(40)), origin="backlog")
    monkeypatch.setattr(Pace, "missed", lambda _: 100)
    turn = dispatcher._Turn(1, 0, Pace(100.0, 1200.0, 1.0), ends_at=0.0, fresh=False)
    cloud.dispatcher()._move_surplus(turn, 1)
    assert (length(cloud.queue), length(cloud.backlog)) == (40, 0)


def test_a_picture_that_takes_processes_with_it_is_left_to_the_platform_to_count(cloud: Cloud) -> None:
    leave(cloud, "killer.png")
    queues = cloud.queues()
    for _ in range(3):
        # As by a process that dies: there the message comes back by itself.
        [taken] = queues.take(queues.waiting, 1, hidden_seconds=60)
        queues.release(taken)
    assert work(cloud)[-1].moved == 1
    assert [(message["name"], message["origin"]) for message in queued(cloud)] == [("killer.png", "waiting")]
    assert length(cloud.waiting) == 0


def test_a_move_that_is_cut_short_is_made_twice_rather_than_not_at_all(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(cloud, "a.png")
    queues = cloud.queues()
    [taken] = queues.take(queues.waiting, 1, hidden_seconds=60)

    def dies(*_: object) -> None:
        raise StorageError("The process ended here.")

    with monkeypatch.context() as patch:
        patch.setattr(queues, "delete", dies)
        with pytest.raises(StorageError):
            queues.move(taken)
    assert (queued_names(cloud), length(cloud.waiting)) == (["a.png"], 1)


def test_messages_of_another_app_and_unreadable_ones_go_where_they_are_seen_to(cloud: Cloud) -> None:
    other = EmbeddingRequest(name="a.png", container="others", space="other")
    cloud.queues().send(other, queue="embedding-backlog")
    cloud.queues().send("not <json>", queue="embedding-waiting")
    cloud.request_queue().ask()
    [turn] = turns(cloud)
    cloud.queue.clear_messages()
    report = cloud.dispatcher().run(turn)
    assert report is not None
    assert report.moved == 2
    assert cloud.model.calls() == []
    unreadable, others = sorted((message.content for message in cloud.queue.peek_messages(2)), key=len)
    assert unreadable == "not <json>"
    assert msgspec.json.decode(base64.b64decode(others), type=EmbeddingRequest) == other


def test_a_turn_for_another_app_on_the_same_queue_comes_back_at_once(cloud: Cloud) -> None:
    other = cloud.with_settings(IMAGES_CONTAINER=f"{cloud.settings.images_container}-other")
    other.request_queue().dispatch(7)
    message = cloud.queue.receive_message()
    assert message is not None
    cloud.intake().queued(base64.b64decode(message.content))
    cloud.queue.delete_message(message)
    assert wait_until(lambda: turns(cloud) == [7], seconds=PATIENCE)


def test_a_turn_that_storage_fails_is_followed_by_another_later(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(cloud, "a.png")

    def fail(request: EmbeddingRequest) -> ImageReport:
        raise StorageError("Storage answered 503.", status=503)

    with syncing(monkeypatch, fail):
        [report] = work(cloud)
    assert (report.outcome, report.next_in) == ("error", 30)
    assert (turns(cloud), length(cloud.queue), length(cloud.waiting)) == ([], 1, 1)


def test_an_audit_asks_for_a_dispatcher_and_puts_nothing_else_on_the_trigger_s_queue(cloud: Cloud) -> None:
    for number in range(5):
        cloud.upload(f"{number}.png", picture(size=(20 + number, 20)))
    report = cloud.reconcile().start(ReconcileRequest())
    assert report.requested == 5
    assert (length(cloud.backlog), length(cloud.waiting)) == (5, 0)
    assert [message.keys() & {"turn", "name"} for message in queued(cloud)] == [{"turn"}]
    work(cloud)
    assert cloud.reconcile().start(ReconcileRequest(dry_run=True)).requested == 0


def test_an_upgrade_finds_what_the_version_before_has_put_back(cloud: Cloud) -> None:
    for name in ("old.png", "older.png"):
        cloud.upload(name, picture(size=(20, 20 + len(name))))
    before = b'{"name": "%s", "attempt": 2, "first_seen": "2126-11-26T00:00:00Z"}'
    intake = cloud.intake()
    intake.queued(before % b"old.png")
    assert cloud.record("old.png") is not None
    cloud.quota().refused(60)
    cloud.intake().queued(before % b"older.png")
    assert [message["attempt"] for message in queued(cloud, cloud.waiting)] == [2]


def test_a_dispatcher_moves_nothing_while_the_app_is_paused(cloud: Cloud) -> None:
    leave(cloud, "a.png")
    cloud.request_queue().ask()
    [turn] = turns(cloud)
    paused = cloud.with_settings(DAILY_TOKEN_LIMIT="0")
    assert paused.dispatcher().run(turn) is None
    assert (length(cloud.waiting), cloud.model.calls()) == (1, [])
    assert not state(cloud).is_dispatched


def test_the_queues_have_the_prefix_that_is_set(cloud: Cloud) -> None:
    queues = cloud.with_settings(QUEUE_PREFIX="team-a-").queues()
    assert (queues.waiting, queues.backlog) == ("team-a-embedding-waiting", "team-a-embedding-backlog")
