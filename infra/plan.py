"""How long a backlog takes, on how many instances, and what it and searches cost: ``make plan IMAGES=… CAPACITY=…``.

A model of the deployment in a page of arithmetic. What was measured is named with its source; what is assumed is an
option. Prices are in ``prices.json``, each with its date and source; those of the models, with the lengths of their
vectors, are in ``shared/known_models.py``.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from shared.known_models import FOUNDRY_PATH, MODELS, KnownModel, known

PRICES = {
    name: price["value"]
    for name, price in json.loads(Path(__file__).with_name("prices.json").read_text()).items()
    if name != "note"
}
# What a deployment gets by default, in the units of its quota.
CAPACITIES = {
    name: model["capacity"] for name, model in json.loads(Path(__file__).with_name("models.json").read_text()).items()
}
DEFAULT_MODEL = "embed-v-4-0"
# A unit of capacity is taken for this much a minute: docs/models.md says who saw it, and why it may be more.
UNIT_TOKENS, UNIT_CALLS = 1000, 1
# Of Embed 3 Microsoft says it: a fixed number for each image. Of the others there is Oracle's page on Embed 4: "a 512 x
# 512 image is converted to about 1,610 tokens".
TOKENS_OF_EMBED_3, TOKENS = 1000, 1610

# One sync of a new image, counted in tests/infra/test_plan.py: what it reads and writes in Blob Storage.
# It deletes, too, which is free.
READS, WRITES = 4, 3
# Put, get and delete of the blob trigger's own queue, which the host does.
QUEUE_OPERATIONS = 3
# An event is taken in and given out: two operations.
EVENT_OPERATIONS = 2
# What waits for the quota is put on a queue and deleted. Each time that the dispatcher takes some, it asks both queues.
# Counted in tests/infra/test_plan.py.
WAITING_OPERATIONS, TAKING_OPERATIONS, MOST_TAKEN = 2, 2, 16
# A turn of the dispatcher: seconds, its own message, and what it reads (once a second) and writes of quota.json.
TURN_SECONDS, TURN_OPERATIONS, TURN_READS, TURN_WRITES = 60, 3, 60, 2
# Our own line of 0.5 KB and three of the host's, each with the columns that Application Insights adds.
LOG_KB = 3.5
# Flex Consumption scales by function group, and these call the model: uploads, queued requests, and HTTP.
GROUPS = 3
# Bytes of one number of a vector as JSON; a vector is stored twice: in the record and by content.
BYTES_A_NUMBER, COPIES = 11.5, 2
# Bytes of an image in the index of search: two and a bit for each number, and about so many for its name and the rest.
INDEX_BYTES_A_NUMBER, INDEX_BYTES = 2.25, 200
# A log of so many bytes becomes a segment. What that reads and writes in Blob Storage, with a share of the merges that
# follow: before an image is in a segment of the largest size, it has been in two smaller ones and in the log.
LOG_BYTES = 4 * 2**20
LOG_READS, LOG_WRITES, REWRITTEN = 25, 8, 3
# Deleted blobs are kept, and paid for, for SOFT_DELETE_DAYS: the template's default.
SOFT_DELETE_DAYS = 7
# A search reads the manifest and the end of the newest log, unless another did within two seconds. The record of its
# query is looked for, and written if there was none.
SEARCH_READS, SEARCH_WRITES = 3, 1
# What a process reads of the index before its first answer comes in requests of so many bytes.
RANGE_BYTES = 8 * 2**20
# On Flex Consumption an execution is charged for a second at least.
LEAST_SECONDS = 1.0
QUERY_TOKENS = 10
# Where the index is made again, threads share an append: so many images did on average, counted against Azurite.
IMAGES_AN_APPEND = 7
# What shared/search/reader.py lets an instance hold: this share of its memory, and files in its temp directory. Those
# leave so many bytes free, and this share of them is in memory as well.
MEMORY_SHARE, RESIDENT_SHARE, LEFT_FREE = 0.5, 0.12, 64 * 2**20
# "Storage (temporary)" of Flex Consumption in Microsoft's service limits of Azure Functions (February 2025).
TEMP_BYTES = 800_000_000


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What is to be embedded, and with what. Times are in seconds."""

    images: int
    model_name: str = DEFAULT_MODEL
    """The model, which says the price, and what is 0 below."""
    capacity: int = 0
    """Capacity of the deployment; 0: the template's default for the model."""
    tpm: int = 0
    """Tokens a minute that the deployment's quota allows; 0: what the capacity is taken for."""
    rpm: int = 0
    """Calls a minute that it allows; 0: as many as the tokens, or what the capacity is taken for."""
    deployments: int = 1
    """Deployments of the model, each with that quota."""
    share: float = 0.9
    """BACKLOG_SHARE: the share of the quota that a backlog may use."""
    tokens: int = 0
    """Tokens of one image; 0: what is known of the model."""
    known: float = 0.0
    """Share of the images whose bytes have been embedded before: they cost no call."""
    cpu: float = 0.15
    """CPU of one image: 130 ms to prepare a 12-megapixel JPEG, and 20 ms for all else (docs/performance.md)."""
    model: float = 0.3
    """Seconds in which the model answers."""
    dimensions: int = 0
    """Length of a vector; 0: the model's."""
    instances: int = 40
    """maximumInstanceCount, which counts for each function group: one group works on a backlog, and no more of its
    instances than the quota feeds."""
    calls: int = 8
    """FOUNDRY_CONCURRENCY: calls in flight in one instance."""
    memory: int = 2048
    """instanceMemoryMB. 2048 come with one core, and others with their share."""
    searches: int = 100_000
    """Searches in a month, by texts that nobody asked for before."""


class PlanError(Exception):
    """The options make no sense; the message says which."""


def completed(backlog: Backlog) -> Backlog:
    """The same with what follows from the model and the capacity."""
    model = _model(backlog.model_name)
    embed_3 = model.paths == (FOUNDRY_PATH,)
    capacity, tpm, rpm = backlog.capacity, backlog.tpm, backlog.rpm
    if not tpm:
        if embed_3:
            raise PlanError(f"What a unit of capacity of {model.name} allows is not known: give TPM.")
        capacity = capacity or CAPACITIES[model.name]
        tpm, rpm = capacity * UNIT_TOKENS, rpm or capacity * UNIT_CALLS
    return replace(
        backlog,
        model_name=model.name,
        capacity=capacity,
        tpm=tpm,
        rpm=rpm,
        tokens=backlog.tokens or (TOKENS_OF_EMBED_3 if embed_3 else TOKENS),
        dimensions=backlog.dimensions or model.dimensions[0],
    )


def _model(name: str) -> KnownModel:
    if model := known(name):
        return model
    raise PlanError(f"The model {name} is not known. These are: {', '.join(CAPACITIES)}.")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a backlog is worked off: ``rate`` in images a second, ``hours`` for all of it, money in US dollars.

    ``by_tokens`` and ``by_calls`` are the images a second that each of the two quotas would allow alone.
    """

    bound: str
    by_tokens: float
    by_calls: float
    rate: float
    hours: float
    instances: int
    in_flight: float
    possible: int
    """Calls in flight if every function group had as many instances, each with all of its calls."""
    money: dict[str, float]
    a_month: dict[str, float]
    searches: dict[str, float]
    """What the searches of a month cost."""
    rebuilding: float
    """What the index of search costs if it is made again from the records."""


def plan(backlog: Backlog) -> Plan:
    """How fast the backlog can be embedded, what bounds that, and what it costs."""
    backlog = completed(backlog)
    calls = backlog.images * (1 - backlog.known)
    # Images that are known need no call, but CPU all the same.
    allowed = backlog.share * backlog.deployments / 60 / max(1 - backlog.known, 1e-9)
    by_tokens = backlog.tpm / backlog.tokens * allowed
    by_calls = backlog.rpm * allowed if backlog.rpm else math.inf
    quota = min(by_tokens, by_calls)
    by_cpu = backlog.memory / 2048 / backlog.cpu
    in_flight = backlog.calls * backlog.deployments / backlog.model / max(1 - backlog.known, 1e-9)
    one = min(by_cpu, in_flight)
    instances = max(1, min(math.ceil(quota / one), backlog.instances))
    rate = min(quota, instances * one)
    seconds = backlog.images / rate
    return Plan(
        bound=_bound(quota, rate, by_calls, cpu=by_cpu < in_flight),
        by_tokens=by_tokens,
        by_calls=by_calls,
        rate=rate,
        hours=seconds / 3600,
        instances=instances,
        in_flight=rate * (1 - backlog.known) * backlog.model,
        possible=backlog.calls * backlog.deployments * instances * GROUPS,
        money=_money(backlog, calls, instances * seconds, seconds),
        a_month=_a_month(backlog),
        searches=_searches(backlog),
        rebuilding=backlog.images * _operations(1, 1 / IMAGES_AN_APPEND) + _compaction(backlog),
    )


def index_bytes(dimensions: int) -> float:
    """What an image takes in the index of search."""
    return dimensions * INDEX_BYTES_A_NUMBER + INDEX_BYTES


def images_held(memory: int, dimensions: int) -> int:
    """How many images an instance of so much memory (MB) can search, whose vectors have so many numbers."""
    room, files = memory * 2**20 * MEMORY_SHARE, TEMP_BYTES - LEFT_FREE
    return int((room + files * (1 - RESIDENT_SHARE)) / index_bytes(dimensions))


def _bound(quota: float, rate: float, by_calls: float, *, cpu: bool) -> str:
    if rate < quota:
        return "CPU" if cpu else "FOUNDRY_CONCURRENCY"
    return "the quota's calls" if by_calls == quota else "the quota's tokens"


def _money(backlog: Backlog, calls: float, instance_seconds: float, seconds: float) -> dict[str, float]:
    gb_seconds = instance_seconds * backlog.memory / 1024
    events = backlog.images * EVENT_OPERATIONS
    turns = seconds / TURN_SECONDS
    # Uploads: each is an execution. What an audit asks for is done by the turns alone.
    executions = backlog.images + turns
    return {
        "model": calls * backlog.tokens / 1e6 * _model(backlog.model_name).price.dollars,
        "functions": _beyond(gb_seconds, "functions_free_gb_seconds") * PRICES["functions_gb_second"]
        + _beyond(executions, "functions_free_executions") / 1e6 * PRICES["functions_million_executions"],
        "storage operations": backlog.images * _operations(READS, WRITES),
        "search index": _compaction(backlog),
        "queue": backlog.images * QUEUE_OPERATIONS / 1e4 * PRICES["queue_10k_operations"],
        "dispatcher": _dispatcher(backlog.images, seconds, turns),
        "events": _beyond(events, "events_free") / 1e6 * PRICES["events_million"],
        "logs": backlog.images * LOG_KB / 1e6 * PRICES["logs_gb"],
    }


def _dispatcher(images: int, seconds: float, turns: float) -> float:
    """What it costs that images wait where they start no instance, besides the instance that works them off."""
    taken = min(MOST_TAKEN, max(1.0, images / seconds))
    operations = images * (WAITING_OPERATIONS + TAKING_OPERATIONS / taken) + turns * TURN_OPERATIONS
    blob = turns * (TURN_READS * PRICES["storage_10k_reads"] + TURN_WRITES * PRICES["storage_10k_writes"])
    return float(operations * PRICES["queue_10k_operations"] + blob) / 1e4


def _a_month(backlog: Backlog) -> dict[str, float]:
    gigabytes = backlog.images * backlog.dimensions * BYTES_A_NUMBER * COPIES / 1e9
    # Every night: a page of 5,000 names of the images and of the records, and of the contents. A listing is a write.
    pages = 3 * math.ceil(backlog.images / 5000)
    index = backlog.images * index_bytes(backlog.dimensions) / 1e9
    return {
        "embeddings stored": gigabytes * PRICES["storage_gb_month"],
        "search index stored": index * PRICES["storage_gb_month"],
        "audits": 30 * pages / 1e4 * PRICES["storage_10k_writes"],
    }


def _compaction(backlog: Backlog) -> float:
    """What it costs that the entries of all images become segments, and small segments larger ones."""
    logs = backlog.images * index_bytes(backlog.dimensions) / LOG_BYTES
    gb_seconds = logs * LEAST_SECONDS * backlog.memory / 1024
    deleted = logs * LOG_BYTES * REWRITTEN / 1e9 * SOFT_DELETE_DAYS / 30
    return (
        logs * _operations(LOG_READS, LOG_WRITES)
        + logs * QUEUE_OPERATIONS / 1e4 * float(PRICES["queue_10k_operations"])
        + gb_seconds * float(PRICES["functions_gb_second"])
        + deleted * float(PRICES["storage_gb_month"])
    )


def _searches(backlog: Backlog) -> dict[str, float]:
    """What a month's searches cost if each comes alone, which is when they cost most."""
    gb_seconds = backlog.searches * LEAST_SECONDS * backlog.memory / 1024
    return {
        "model": backlog.searches * QUERY_TOKENS / 1e6 * _model(backlog.model_name).price.dollars,
        "functions": _beyond(gb_seconds, "functions_free_gb_seconds") * PRICES["functions_gb_second"]
        + _beyond(backlog.searches, "functions_free_executions") / 1e6 * PRICES["functions_million_executions"],
        "storage operations": backlog.searches * _operations(SEARCH_READS, SEARCH_WRITES),
        "logs": backlog.searches * LOG_KB / 1e6 * PRICES["logs_gb"],
    }


def _operations(reads: float, writes: float) -> float:
    """What so many reads and writes of Blob Storage cost."""
    return (reads * float(PRICES["storage_10k_reads"]) + writes * float(PRICES["storage_10k_writes"])) / 1e4


def _beyond(amount: float, free: str) -> float:
    return max(0.0, amount - float(PRICES[free]))


def lines(backlog: Backlog) -> list[str]:
    """The plan as it is printed."""
    backlog = completed(backlog)
    found = plan(backlog)
    total = sum(found.money.values())
    by_calls = "" if math.isinf(found.by_calls) else f", {found.by_calls:,.1f} by calls"
    said = [
        f"{backlog.images:,} images of {backlog.tokens:,} tokens with {backlog.model_name}, at {_quota(backlog)}",
        "",
        f"  bound by             {found.bound}",
        f"  images a second      {found.rate:,.1f} ({found.by_tokens:,.1f} by tokens{by_calls})",
        f"  hours                {found.hours:,.1f}",
        f"  instances at work    {found.instances} of {backlog.instances} deployed: the others cost nothing",
        f"  calls in flight      {found.in_flight:,.1f} of {found.possible} possible in {GROUPS} function groups",
        "",
        f"  {'once':<20} {'US$':>12} {'per 1,000':>12}",
        *(_row(part, money, backlog.images) for part, money in found.money.items()),
        _row("together", total, backlog.images),
        "",
        f"  {'every month':<20} {'US$':>12} {'per 1,000':>12}",
        *(_row(part, money, backlog.images) for part, money in found.a_month.items()),
        "",
        *_search_lines(backlog, found),
        "",
        f"  {'with another model':<28} {'US$':>4} {'per 1,000':>12}",
        *(_row(name, money, backlog.images, 28) for name, money in _other_models(backlog).items()),
    ]
    if backlog.capacity:
        said += [
            "",
            f"  A capacity of {backlog.capacity:,} is taken for {UNIT_TOKENS * backlog.capacity:,} tokens and"
            f" {UNIT_CALLS * backlog.capacity:,} calls a minute:",
            "  see 'What a unit of capacity allows' in docs/models.md.",
        ]
    if backlog.images > 10_000_000:
        said += ["", "  More than 10 million images: see 'At 10 million and beyond' in docs/scaling.md."]
    return said


def _search_lines(backlog: Backlog, found: Plan) -> list[str]:
    size = backlog.images * index_bytes(backlog.dimensions)
    held = images_held(backlog.memory, backlog.dimensions)
    per_picture = backlog.tokens / 1000 * _model(backlog.model_name).price.dollars
    said = [
        f"  {f'{backlog.searches:,} searches':<20} {'US$':>12} {'per 1,000':>12}",
        *(_row(part, money, backlog.searches) for part, money in found.searches.items()),
        _row("together", sum(found.searches.values()), backlog.searches),
        "",
        f"  By a picture that is new they cost US$ {per_picture:,.2f} per 1,000 more.",
        f"  The index has {size / 1e9:,.1f} GB: an instance reads it in {math.ceil(size / RANGE_BYTES):,} requests"
        " before its first answer.",
        f"  Making it again from the records costs US$ {found.rebuilding:,.2f}.",
        f"  An instance of {backlog.memory:,} MB can search about {round(held, -4):,} images of"
        f" {backlog.dimensions:,} numbers.",
    ]
    if backlog.images > held:
        said += [
            f"  {backlog.images:,} are more: see 'How many images' in docs/search.md. Azure AI Search costs"
            f" US$ {PRICES['ai_search_basic_month']:,.0f} a month at the least.",
        ]
    return said


def _other_models(backlog: Backlog) -> dict[str, float]:
    """What the calls would cost with each of the other models that are known."""
    calls = backlog.images * (1 - backlog.known)
    costs = {}
    for model in MODELS:
        if model.name != backlog.model_name:
            tokens = TOKENS_OF_EMBED_3 if model.paths == (FOUNDRY_PATH,) else TOKENS
            costs[model.name] = calls * tokens / 1e6 * model.price.dollars
    return costs


def _quota(backlog: Backlog) -> str:
    quota = f"{backlog.tpm:,} tokens"
    if backlog.rpm:
        quota += f" and {backlog.rpm:,} calls"
    if backlog.deployments > 1:
        quota += f" at each of {backlog.deployments} deployments"
    return f"{quota} a minute, {backlog.share:.0%} for a backlog"


def _row(part: str, money: float, count: int, width: int = 20) -> str:
    return f"  {part:<{width}} {money:>{32 - width},.2f} {money / count * 1000:>12.4f}"


def main(arguments: list[str]) -> int:
    """Read the options and print the plan; returns the exit status, 2 if they make no sense."""
    parser = argparse.ArgumentParser(prog="make plan", description=__doc__.splitlines()[0] if __doc__ else None)
    for option in fields(Backlog):
        kind = option.type if isinstance(option.type, type) else str
        parser.add_argument(f"--{option.name}", type=kind, required=option.name == "images", default=None)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        _check({name: value for name, value in given.items() if not isinstance(value, str)})
        print("\n".join(lines(Backlog(**given))))
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _check(given: dict[str, float]) -> None:
    wrong = [name for name, value in given.items() if value < 0 or (value == 0 and name not in {"rpm", "known"})]
    if given.get("known", 0) >= 1:
        wrong.append("known")
    if given.get("share", 0) > 1:
        wrong.append("share")
    if "capacity" in given and "tpm" in given:
        raise PlanError("CAPACITY and TPM say the same: give one of them.")
    if wrong:
        raise PlanError(f"These make no sense: {', '.join(f'{name}={given[name]}' for name in wrong)}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
