"""The plan's arithmetic holds, its counts are those of the code, and docs/scaling.md shows what it prints."""

import json
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import pytest
import urllib3

import function_app
from infra import plan
from infra.plan import Backlog
from shared.errors import IndexUnavailable
from shared.known_models import COHERE_PATH, MODELS, KnownModel
from shared.search import reader
from shared.search.entries import Entry, Facts, encode
from shared.search.manifest import ListedSegment, Manifest
from shared.search.segment import build
from shared.storage.queues import Queues
from shared.uploads.records import entry_of
from shared.uploads.report import ImageReport
from shared.uploads.requests import EmbeddingRequest
from shared.uploads.sync import Sync
from shared.uploads.waiting import dispatcher
from tests.conftest import Clock, Cloud
from tests.drawing import picture
from tests.functions import start_anew
from tests.infra.deployments import INFRA, ROOT
from tests.search.records import record, write

SCALING = (ROOT / "docs/scaling.md").read_text()
FACTS = Facts(etag="0x1", media_type="image/png", width=1, height=1, embedded_at=datetime(2026, 11, 22, tzinfo=UTC))


def test_a_backlog_that_the_quota_bounds_takes_its_tokens_over_the_quota() -> None:
    found = plan.plan(Backlog(images=1_000_000, tpm=300_000, tokens=1000, share=1))
    assert found.bound == "the quota's tokens"
    assert found.hours == pytest.approx(1_000_000 * 1000 / 300_000 / 60)


def test_calls_a_minute_bound_it_where_they_are_fewer() -> None:
    found = plan.plan(Backlog(images=6000, tpm=10**9, rpm=60, share=1))
    assert found.bound == "the quota's calls"
    assert found.rate == pytest.approx(1)


def test_a_huge_quota_leaves_it_to_the_cores_or_to_the_calls_in_flight() -> None:
    assert plan.plan(Backlog(images=1000, tpm=10**9, cpu=0.5, instances=2)).rate == pytest.approx(4)
    slow = plan.plan(Backlog(images=1000, tpm=10**9, model=10, calls=8, instances=2))
    assert slow.bound == "FOUNDRY_CONCURRENCY"
    assert slow.rate == pytest.approx(1.6)


def test_no_more_instances_are_planned_than_the_quota_feeds() -> None:
    assert plan.plan(Backlog(images=1000, tpm=300_000, tokens=1000)).instances == 1
    assert plan.plan(Backlog(images=1000, tpm=3_000_000, tokens=1000)).instances == 7


def test_calls_in_flight_are_those_of_an_instance_in_every_function_group() -> None:
    found = plan.plan(Backlog(images=1000, tpm=3_000_000, calls=4))
    assert found.possible == 4 * found.instances * 3


def test_instances_that_the_quota_does_not_feed_cost_nothing() -> None:
    one, forty = (plan.plan(Backlog(images=10**6, tpm=300_000, instances=instances)) for instances in (1, 40))
    assert (one.instances, one.money) == (forty.instances, forty.money)


def test_a_backlog_leaves_a_share_of_the_quota_to_queries_and_fresh_uploads() -> None:
    assert plan.plan(Backlog(images=6000, tpm=10**9, rpm=60, share=0.5)).rate == pytest.approx(0.5)


def test_the_quotas_of_several_deployments_add_up() -> None:
    one, three = (plan.plan(Backlog(images=10**6, tpm=300_000, deployments=n)) for n in (1, 3))
    assert three.rate == pytest.approx(3 * one.rate)


def test_what_the_calls_would_cost_with_each_other_model_is_printed() -> None:
    said = plan.lines(Backlog(images=1_000_000, tpm=300_000))
    for model in MODELS:
        if model.name != Backlog(images=1).model_name:
            [line] = [line for line in said if line.startswith(f"  {model.name} ")]
            money = plan.plan(Backlog(images=1_000_000, tpm=300_000, model_name=model.name)).money["model"]
            assert f" {money:,.2f} " in line


def test_twice_the_images_cost_twice_the_calls_and_known_ones_cost_none() -> None:
    one, two = (plan.plan(Backlog(images=images, tpm=300_000)).money for images in (10**6, 2 * 10**6))
    assert two["model"] == pytest.approx(2 * one["model"])
    assert two["storage operations"] == pytest.approx(2 * one["storage operations"])
    assert plan.plan(Backlog(images=10**6, tpm=300_000, known=0.75)).money["model"] == pytest.approx(one["model"] / 4)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_price_and_length_of_a_vector_are_those_of_the_model(model: KnownModel) -> None:
    found = plan.plan(Backlog(images=10**6, tpm=300_000, tokens=1000, model_name=model.name))
    assert found.money["model"] == pytest.approx(1000 * model.price.dollars)
    one = plan.plan(Backlog(images=10**6, tpm=300_000, model_name=model.name, dimensions=1)).a_month
    assert found.a_month["embeddings stored"] == pytest.approx(model.dimensions[0] * one["embeddings stored"])


def test_a_capacity_is_taken_for_its_tokens_and_its_calls_a_minute() -> None:
    # Of large pictures the tokens are spent first, of small ones the calls.
    assert plan.plan(Backlog(images=1000, capacity=60, tokens=2000, share=1)).rate == pytest.approx(0.5)
    assert plan.plan(Backlog(images=1000, capacity=60, tokens=10, share=1)).rate == pytest.approx(1)
    assert plan.plan(Backlog(images=1000, capacity=60, tokens=10, rpm=600, share=1)).rate == pytest.approx(10)


def test_the_default_capacity_embeds_several_pictures_a_second() -> None:
    for model in MODELS:
        if COHERE_PATH in model.paths:
            assert plan.plan(Backlog(images=1000, model_name=model.name)).rate >= 2.7
            said = plan.lines(Backlog(images=1000, model_name=model.name))
            assert any("A capacity of 300 is taken for 300,000 tokens and 300 calls a minute" in line for line in said)


def test_the_parts_add_up_to_what_is_printed_together() -> None:
    backlog = Backlog(images=1_000_000, tpm=300_000)
    found = plan.plan(backlog)
    once, searches = [line for line in plan.lines(backlog) if "together" in line]
    assert f"{sum(found.money.values()):,.2f}" in once
    assert f"{sum(found.searches.values()):,.2f}" in searches


def test_every_price_has_its_date_and_source() -> None:
    prices: dict[str, Any] = json.loads((INFRA / "prices.json").read_text())
    assert prices.pop("note")
    for price in prices.values():
        assert price["value"] > 0
        assert re.fullmatch(r"\d{4}-\d{2}", price["date"])
        assert price["source"].startswith("https://")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many reads and writes were made of Blob Storage. Deletions are free.

    What a process reads of ``quota.json``, once a second at most, is no part of an image.
    """
    found: Counter[str] = Counter()
    request = urllib3.PoolManager.request

    def counted(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        if not url.endswith("/quota.json"):
            found[{"GET": "reads", "HEAD": "reads", "PUT": "writes"}.get(method, method)] += 1
        return request(pool, method, url, **options)

    monkeypatch.setattr(urllib3.PoolManager, "request", counted)
    return found


def test_the_storage_operations_of_an_image_are_those_that_the_code_makes(
    cloud: Cloud, made: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a process, where all know what one has read of the space.
    space = cloud.space()
    monkeypatch.setattr(Cloud, "space", lambda _: space)
    sync = cloud.sync()
    # The first image of a space claims and describes it.
    cloud.upload("first.png", picture("blue"))
    sync.upload("first.png")
    cloud.upload("a.png", picture())
    made.clear()
    assert sync.upload("a.png").outcome == "embedded"
    assert (made["reads"], made["writes"]) == (plan.READS, plan.WRITES)


def test_the_queue_operations_of_what_waits_are_those_that_the_code_makes(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Counter[str] = Counter()

    def counted(owner: type, method: str) -> None:
        before = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            found[method] += 1
            return before(*arguments, **options)

        monkeypatch.setattr(owner, method, call)

    for owner, method in ((Queues, "send"), (Queues, "take"), (Queues, "delete"), (dispatcher.Dispatcher, "_fetch")):
        counted(owner, method)
    monkeypatch.setattr(Sync, "request", lambda *_: ImageReport(name="a.png", outcome="unchanged"))
    requests = cloud.request_queue()
    for number in range(20):
        requests.leave(EmbeddingRequest(name=f"{number}.png", origin="backlog"))
    assert found == {"send": 20}
    requests.ask()
    cloud.dispatcher().run(1)
    # One more is sent: that of the dispatcher, which the host takes and deletes.
    assert (found["send"] - 20 + 2, found["delete"]) == (plan.TURN_OPERATIONS, 20 * (plan.WAITING_OPERATIONS - 1))
    assert found["take"] <= found["_fetch"] * plan.TAKING_OPERATIONS
    assert (dispatcher._MOST_AT_ONCE, dispatcher._TURN_SECONDS) == (plan.MOST_TAKEN, plan.TURN_SECONDS)


def test_the_storage_operations_of_the_index_are_those_that_the_code_makes(cloud: Cloud, made: Counter[str]) -> None:
    index, compaction = cloud.index_blobs(), cloud.compaction()
    log = index.next_log(None)
    spent: Counter[str] = Counter()
    # Four logs become segments of a size, which become one.
    for first in range(0, 4 * 512, 512):
        rows = [Entry(name=f"{first + row}", seq=1, facts=FACTS, vector=bytes(8192)) for row in range(512)]
        for start in range(0, 512, 64):
            index.append(log, encode(rows[start : start + 64]))
        made.clear()
        compaction.run()
        spent += made
        log = str(index.read().manifest.newest)
    assert [one.rows for one in index.read().manifest.segments] == [4 * 512]
    # Merges of larger segments come on top, each for more logs.
    for kind, planned in (("reads", plan.LOG_READS), ("writes", plan.LOG_WRITES)):
        assert 0.7 * planned <= spent[kind] / 4 <= planned, kind


def test_the_storage_operations_of_a_search_are_those_that_the_code_makes(
    cloud: Cloud, made: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    clock = Clock()
    monkeypatch.setattr(reader, "time", clock)
    start_anew()
    function: Any = function_app.search
    # The first search reads what describes the space.
    for text in ("a blue bicycle", "a red bicycle"):
        made.clear()
        clock.pass_(3)
        body = json.dumps({"text": text}).encode()
        assert function(func.HttpRequest("POST", "/", body=body, params={}, headers={})).status_code == 200
    start_anew()
    assert (made["reads"], made["writes"]) == (plan.SEARCH_READS, plan.SEARCH_WRITES)


def test_a_record_is_read_once_where_the_index_is_made_again(cloud: Cloud, made: Counter[str]) -> None:
    write(cloud, "a", "b")
    store = cloud.record_store()
    assert store.correct("a", 0, is_gone=False)
    made.clear()
    assert store.correct("b", 0, is_gone=False)
    assert (made["reads"], made["writes"]) == (1, 1), "of the writes, threads share one"


@pytest.mark.parametrize(("memory", "dimensions"), [(512, 256), (2048, 1536), (4096, 1024)])
def test_an_instance_searches_as_many_images_as_planned_and_no_more(
    cloud: Cloud, memory: int, dimensions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_memory", lambda: memory * 2**20)
    monkeypatch.setattr(reader, "_free_on_disk", lambda: plan.TEMP_BYTES - reader._LEFT_FREE)

    def manifest(images: float) -> Manifest:
        size = round(images * plan.index_bytes(dimensions))
        segment = ListedSegment(id="1", rows=round(images), bytes=size, dimensions=dimensions)
        return Manifest(folder="", segments=(segment,))

    held = plan.images_held(memory, dimensions)
    cloud.reader()._check_room(manifest(0.999 * held), 0)
    with pytest.raises(IndexUnavailable, match="raise INSTANCE_MEMORY_MB"):
        cloud.reader()._check_room(manifest(1.001 * held), 0)


def test_the_page_on_search_says_how_many_images_an_instance_searches() -> None:
    page = (ROOT / "docs/search.md").read_text()
    memories = [int(memory) for memory in re.findall(r"\| `INSTANCE_MEMORY_MB` (\d+) (?=\|)", page)]
    rows = re.findall(r"^\| (\d+) \| ([\d,]+) \| ([\d,]+) \|$", page, re.MULTILINE)
    assert (len(memories), len(rows)) == (2, 4)
    for dimensions, *shown in rows:
        for memory, images in zip(memories, shown, strict=True):
            assert int(images.replace(",", "")) == round(plan.images_held(memory, int(dimensions)), -4)


def test_a_stored_vector_is_as_long_as_planned(cloud: Cloud) -> None:
    cloud.upload("a.png", picture())
    cloud.sync().upload("a.png")
    numbers = json.dumps(cloud.record("a.png")["embedding"], separators=(",", ":"))
    assert len(numbers) / 1024 == pytest.approx(plan.BYTES_A_NUMBER, rel=0.15)


def test_an_image_takes_as_much_of_the_index_as_planned() -> None:
    names = [f"trips/2026/november/photograph {number:04}.jpg" for number in range(1000)]
    entries = [entry_of(record(name, "0x8DE2A0C1F5B3A70", "images", [1.0] * 1024), 1) for name in names]
    size = sum(map(len, build(entries, dimensions=1024)))
    assert size / 1000 == pytest.approx(1024 * plan.INDEX_BYTES_A_NUMBER + plan.INDEX_BYTES, rel=0.05)


def test_the_examples_in_the_documentation_are_what_the_program_prints() -> None:
    examples = re.findall(r"    make plan ([^\n]*)\n\n((?:    [^\n]*\n|\n)+?)(?=\n\S)", SCALING)
    assert examples
    for options, shown in examples:
        given = [f"--{name.lower()}={value}" for name, value in re.findall(r"(\w+)=([\w-]+)", options)]
        ran = subprocess.run([sys.executable, "-m", "infra.plan", *given], capture_output=True, text=True, check=True)
        assert [line.strip() for line in shown.splitlines()] == [line.strip() for line in ran.stdout.splitlines()]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--images=0", "--tpm=1"], "images=0"),
        (["--images=1", "--tpm=1", "--known=1"], "known=1"),
        ([], "required"),
        (["--images=1", "--model_name=another"], "Cohere-Embed-V5-Pro"),
        (["--images=1", "--model_name=Cohere-embed-v3-english"], "give TPM"),
        (["--images=1", "--tpm=1", "--capacity=1"], "give one of them"),
    ],
)
def test_an_impossible_option_is_named(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = plan.main(given)
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    assert status == 2
    assert said in capsys.readouterr().err
