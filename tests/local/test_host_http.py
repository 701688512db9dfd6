"""What the stand-in for the Functions host answers over HTTP: the host's own rules."""

import http.client
import itertools
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.azurite import Azurite
from local.host.host_json import read_host_json
from local.host.http import BODY_LIMIT
from tests.conftest import PATIENCE
from tests.local.conftest import APP, KEY, Host, eventually, host_process

EMPTY_404 = (404, b"")


def test_a_function_answers_at_its_route_below_the_prefix_whatever_the_case(host: Host) -> None:
    assert host.http.get("/api/hello").text == "hello"
    assert host.http.get("/API/Hello").text == "hello"


def test_a_route_parameter_query_body_and_headers_arrive_and_the_answer_comes_back_whole(host: Host) -> None:
    answer = host.http.post(
        "/api/things/a%20%C3%BC/of",
        params={"q": "1 2"},
        content=bytes(range(256)),
        headers={"x-functions-key": KEY, "x-header": "kept"},
    )
    assert answer.status_code == 201
    assert answer.headers["x-header"] == "kept"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"thing": "a ü", "query": {"q": "1 2"}, "bytes": list(range(256))}


@pytest.mark.parametrize(
    ("path", "rest"),
    [("/a/b c/%23%25", "a/b c/#%"), ("/a%2Fb", "a%2Fb"), ("/%C3%A9//x", "\u00e9//x"), ("/", ""), ("", "")],
)
def test_a_parameter_for_the_rest_of_a_path_has_all_of_it_unescaped_but_for_slashes(
    host: Host, path: str, rest: str
) -> None:
    assert host.http.get(f"/api/rest{path}").json() == rest


@pytest.mark.parametrize("path", ["/", "/hello", "/api", "/api/nothing", "/api/things/a", "/admin/host/nothing"])
def test_an_unknown_path_is_an_empty_404(host: Host, path: str) -> None:
    answer = host.http.post(path)
    assert (answer.status_code, answer.content) == EMPTY_404


@pytest.mark.parametrize("path", ["/api/hello", "/api/HELLO"])
def test_a_wrong_verb_is_an_empty_404(host: Host, path: str) -> None:
    answer = host.http.delete(path)
    assert (answer.status_code, answer.content) == EMPTY_404


def test_a_wrong_verb_is_a_404_before_the_key_is_looked_at(host: Host) -> None:
    assert host.http.get("/api/things/a/of").status_code == 404


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_function_without_methods_takes_every_verb(host: Host, verb: str) -> None:
    assert host.http.request(verb, "/api/any").text == verb


@pytest.mark.parametrize(("verb", "path"), [("POST", "/api/things/a/of"), ("GET", "/api/admin")])
@pytest.mark.parametrize("headers", [{}, {"x-functions-key": "wrong"}, {"x-functions-key": ""}])
def test_without_the_right_key_the_answer_is_an_empty_401(
    host: Host, verb: str, path: str, headers: dict[str, str]
) -> None:
    answer = host.http.request(verb, path, headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert "www-authenticate" not in answer.headers


def test_the_key_may_stand_in_the_query(host: Host) -> None:
    assert host.http.get("/api/admin", params={"code": KEY}).text == "for administrators"


def test_a_wrong_key_in_the_header_is_not_made_good_by_a_right_one_in_the_query(host: Host) -> None:
    answer = host.http.get("/api/admin", params={"code": KEY}, headers={"x-functions-key": "wrong"})
    assert answer.status_code == 401


def test_a_function_that_raises_is_an_empty_500_and_its_traceback_is_in_the_log(host: Host) -> None:
    answer = host.http.get("/api/raises")
    assert (answer.status_code, answer.content) == (500, b"")
    eventually(lambda: "ERROR host raises failed: ValueError: as it should\nTraceback" in host.log.read_text())


def test_a_body_that_announces_more_than_the_limit_is_a_413(host: Host) -> None:
    address = urlsplit(str(host.http.base_url))
    with closing(http.client.HTTPConnection(f"{address.hostname}:{address.port}", timeout=PATIENCE)) as connection:
        connection.putrequest("POST", "/api/any")
        connection.putheader("Content-Length", str(BODY_LIMIT + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_a_body_that_turns_out_to_be_more_than_the_limit_is_a_413(host: Host) -> None:
    megabytes = itertools.repeat(bytes(1 << 20), 101)
    assert host.http.post("/api/any", content=megabytes).status_code == 413


@pytest.mark.parametrize("verb", ["GET", "POST"])
def test_the_host_says_that_it_is_up(host: Host, verb: str) -> None:
    assert host.http.request(verb, "/admin/host/ping").status_code == 200


def test_its_functions_are_listed_with_settings_resolved_to_whoever_has_the_key(host: Host) -> None:
    assert host.http.get("/admin/functions").status_code == 401
    functions = host.http.get("/admin/functions", headers={"x-functions-key": KEY}).json()
    triggers = {function["name"]: function["config"]["bindings"][0] for function in functions}
    assert triggers["by_name"]["path"] == "pictures/{name}"


def test_a_timer_runs_when_an_administrator_asks_for_it(host: Host) -> None:
    assert host.http.post("/admin/functions/by_timer", json={}).status_code == 401
    assert host.http.post("/admin/functions/By_Timer", headers={"x-functions-key": KEY}, json={}).status_code == 202
    eventually(lambda: host.succeeded("now"))
    assert host.http.post("/admin/functions/hello", headers={"x-functions-key": KEY}).status_code == 404


def test_the_app_sees_its_settings_but_not_what_belongs_to_the_host(host: Host) -> None:
    environment = host.http.get("/api/environment").json()
    assert environment["IMAGES_CONTAINER"] == "pictures"
    assert not {"AzureWebJobsStorage", "FUNCTIONS_KEY"} & environment.keys()


def test_an_app_that_cannot_be_loaded_ends_the_host_with_the_apps_own_message(azurite: Azurite, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0"}')
    (tmp_path / "function_app.py").write_text("raise RuntimeError('FOUNDRY_MODEL is not set')")
    with host_process(azurite, tmp_path / "log", app=tmp_path) as child:
        assert child.wait() == 1
    assert "RuntimeError: FOUNDRY_MODEL is not set" in child.log.read_text()


def test_a_setting_that_a_binding_names_must_exist(azurite: Azurite, tmp_path: Path) -> None:
    for part in APP.glob("*.*"):
        text = part.read_text().replace("%IMAGES_CONTAINER%", "%NOT_THERE%")
        (tmp_path / part.name).write_text(text)
    with host_process(azurite, tmp_path / "log", app=tmp_path) as child:
        assert child.wait() == 1
    assert "by_name: '%NOT_THERE%' does not resolve" in child.log.read_text()


def test_host_json_has_the_hosts_own_defaults() -> None:
    defaults = read_host_json('{"version": "2.0"}', {}, cores=2, lease=600)
    assert defaults.route_prefix == "api"
    assert defaults.timeout == 1800
    assert (defaults.blobs.batch, defaults.blobs.refill_at, defaults.blobs.attempts) == (9, 7, 5)
    assert (defaults.queues.batch, defaults.queues.refill_at, defaults.queues.attempts) == (16, 8, 5)
    assert (defaults.queues.retry_after, defaults.queues.base64, defaults.queues.longest_pause) == (0, True, 60)


def test_host_json_is_obeyed() -> None:
    text = """{"functionTimeout": "00:05:30", "extensions": {
        "http": {"routePrefix": ""},
        "blobs": {"maxDegreeOfParallelism": 1, "poisonBlobThreshold": 2},
        "queues": {"batchSize": 8, "newBatchThreshold": 1, "maxDequeueCount": 3, "visibilityTimeout": "00:00:10",
                   "maxPollingInterval": "00:00:05", "messageEncoding": "none"}}}"""
    host_json = read_host_json(text, {}, cores=2, lease=600)
    assert (host_json.route_prefix, host_json.timeout) == ("", 330)
    assert (host_json.blobs.batch, host_json.blobs.refill_at, host_json.blobs.attempts) == (1, 0, 2)
    assert (host_json.queues.batch, host_json.queues.refill_at, host_json.queues.attempts) == (8, 1, 3)
    assert (host_json.queues.retry_after, host_json.queues.base64, host_json.queues.longest_pause) == (10, False, 5)


def test_the_longest_pause_between_polls_is_no_setting_of_the_blob_triggers_queue() -> None:
    text = '{"extensions": {"queues": {"maxPollingInterval": "00:00:05", "messageEncoding": "none"}}}'
    host_json = read_host_json(text, {}, cores=2, lease=600)
    assert (host_json.blobs.longest_pause, host_json.blobs.base64) == (60, True)


def test_settings_stand_above_host_json() -> None:
    text = '{"extensions": {"blobs": {"maxDegreeOfParallelism": 1, "poisonBlobThreshold": 2}}}'
    settings = {"AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism": "64", "FUNCTIONS_KEY": "x__y"}
    host_json = read_host_json(text, settings, cores=2, lease=600)
    assert (host_json.blobs.batch, host_json.blobs.refill_at, host_json.blobs.attempts) == (32, 32, 2)
