"""What happens after a deployment: the hook waits, subscribes, makes sure, and never lets a key out."""

import json
import os
import pty
import re
import shutil

import pytest

from infra.plan import Backlog, plan
from tests.infra.deployments import parameters, snapshot
from tests.infra.hooks import AZ, KEY, MODELS, WELL, Answer, Hooks, audit

OUTPUTS = snapshot("defaults")["outputs"]
HANDSHAKE = f"ERROR: Webhook validation handshake failed https://app/runtime/webhooks/blobs?functionName=x&code={KEY}"
UNWELL = Answer(503, b'{"error":{"code":"missing_role","message":"Give it."}}', "application/json")
PAGE = "<!DOCTYPE html>\n<html><title>Sign in to the network</title></html>"


def test_a_deployment_that_went_well_ends_with_what_to_do_next(hooks: Hooks) -> None:
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0, ran.stderr
    assert f"az storage blob upload --auth-mode login --account-name {OUTPUTS['DATA_ACCOUNT_NAME']}" in ran.stdout
    assert f"{OUTPUTS['EMBEDDING_SPACE']}/images/a.jpg.json" in ran.stdout
    [deployed] = hooks.asked("az deployment group create")
    for name, parameter in parameters("events").items():
        assert "defaultValue" in parameter or re.search(rf" {name}=\S", deployed), name


def test_it_waits_until_the_key_is_there(hooks: Hooks) -> None:
    hooks.answers("key", "false", "false", "true")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0
    assert ran.stdout.count("Waiting for the app to start (function listed: true, webhook key: false)") == 2
    assert len([line for line in hooks.asked("az rest") if "/sync?" in line]) == 3


def test_it_waits_until_the_function_is_listed(hooks: Hooks) -> None:
    hooks.answers("function", "false", "true")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0
    assert "function listed: false" in ran.stdout


def test_a_second_run_does_the_same_again(hooks: Hooks) -> None:
    assert hooks.run("postdeploy").returncode == 0
    first = hooks.asked("az")
    assert hooks.run("postdeploy").returncode == 0
    assert hooks.asked("az")[len(first) :] == first


def test_it_tries_again_where_event_grid_got_no_answer(hooks: Hooks) -> None:
    hooks.answers("deployment", HANDSHAKE, HANDSHAKE, "")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0
    assert "attempt 2 of 5) ... ERROR: Webhook validation handshake failed" in ran.stdout


def test_it_shows_why_event_grid_did_not_subscribe_but_not_the_key(hooks: Hooks) -> None:
    hooks.answers("deployment", HANDSHAKE)
    ran = hooks.run("postdeploy")
    assert ran.returncode == 1
    assert "handshake failed" in ran.stderr
    assert "code=(not shown)" in ran.stderr
    assert "azd hooks run postdeploy" in ran.stderr
    assert len(hooks.asked("az deployment")) == 5


def test_a_host_that_never_starts_ends_with_where_to_look(hooks: Hooks) -> None:
    hooks.answers("function", "false")
    hooks.answers("key", "false")
    ran = hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert "has not started" in ran.stderr
    assert "log stream" in ran.stderr
    assert hooks.asked("az deployment") == []


def test_a_wait_ends_by_the_clock_however_long_each_look_takes(hooks: Hooks) -> None:
    hooks.answers("key", "false")
    (hooks.folder / "az").write_text(AZ.replace("answer() {", "sleep 0.5\nanswer() {", 1))
    assert hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="3").returncode == 1
    looks = [line for line in hooks.asked("az rest") if "/sync?" in line]
    assert len(looks) < 4


def test_a_wait_says_what_az_was_refused_for_but_not_the_key(hooks: Hooks) -> None:
    hooks.answers("function", f"ERROR: Forbidden: no right to list functions, see x?code%3D{KEY}", "true")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0
    assert "no right to list functions" in ran.stdout
    assert "code=(not shown)" in ran.stdout


def test_it_says_how_to_sign_in(hooks: Hooks) -> None:
    hooks.answers("account", "ERROR: Please run az login")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 1
    assert "az login" in ran.stderr


def test_it_names_what_it_was_not_given(hooks: Hooks) -> None:
    ran = hooks.run("postdeploy", EVENT_TOPIC_ID="")
    assert ran.returncode == 1
    assert "EVENT_TOPIC_ID is not set" in ran.stderr


def test_with_uploads_over_the_queue_there_is_no_key_to_ask_or_wait_for(hooks: Hooks) -> None:
    hooks.answers("key", "false")
    hooks.answers("function", "false")
    ran = hooks.run("postdeploy", UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    assert not any("systemKeys" in line for line in hooks.asked("az rest"))
    [deployed] = hooks.asked("az deployment group create")
    assert " uploadEvents=queue" in deployed


def test_with_uploads_over_the_queue_the_platform_is_told_of_the_package_until_it_listens(hooks: Hooks) -> None:
    hooks.answers("sync", "ERROR: 503 busy", "ERROR: 503 busy", "")
    ran = hooks.run("postdeploy", UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    assert "(attempt 2 of 5) ... ERROR: 503 busy" in ran.stdout
    assert len([line for line in hooks.asked("az rest") if "/sync?" in line]) == 3
    assert "could not be told" not in ran.stderr


def test_a_platform_that_never_listens_does_not_keep_uploads_over_the_queue_from_being_subscribed(hooks: Hooks) -> None:
    hooks.answers("sync", "ERROR: 403 no right to sync")
    ran = hooks.run("postdeploy", UPLOAD_EVENTS="queue")
    assert ran.returncode == 0, ran.stderr
    [warning] = ran.stderr.strip().splitlines()
    assert warning.endswith("If nothing is embedded: azd hooks run postdeploy. ERROR: 403 no right to sync")
    assert len([line for line in hooks.asked("az rest") if "/sync?" in line]) == 5
    assert len(hooks.asked("az deployment group create")) == 1


# What the hooks and the fake `az` run besides.
TOOLS = ("cat", "cut", "date", "dirname", "grep", "head", "mktemp", "mv", "rm", "sed", "sh", "sleep", "tr")


@pytest.fixture
def no_curl(hooks: Hooks) -> str:
    """A PATH without curl."""
    tools = hooks.folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    return f"{hooks.folder}:{tools}"


# PowerShell asks for health by itself.
@pytest.mark.parametrize("hooks", ["sh"], indirect=True)
def test_without_curl_it_says_so_before_it_waits(hooks: Hooks, no_curl: str) -> None:
    ran = hooks.run("postdeploy", PATH=no_curl)
    assert ran.returncode == 1
    assert ran.stderr == "curl is needed to check the app's health.\n"
    assert hooks.asked("az rest") == []


@pytest.mark.parametrize("hooks", ["sh"], indirect=True)
def test_a_private_app_needs_no_curl(hooks: Hooks, no_curl: str) -> None:
    ran = hooks.run("postdeploy", PATH=no_curl, UPLOAD_EVENTS="queue", PRIVATE_APP="true")
    assert ran.returncode == 0, ran.stderr


def test_event_grid_is_given_the_webhook_unless_uploads_go_to_the_queue(hooks: Hooks) -> None:
    assert hooks.run("postdeploy").returncode == 0
    [deployed] = hooks.asked("az deployment group create")
    assert " uploadEvents=webhook" in deployed


def test_a_private_app_is_not_called_and_it_says_from_where_to_call_it(hooks: Hooks, nobody: str) -> None:
    private = snapshot("queue-private")["outputs"]["PRIVATE_APP"]
    ran = hooks.run("postdeploy", UPLOAD_EVENTS="queue", PRIVATE_APP=private, FUNCTION_APP_URL=f"http://{nobody}")
    assert ran.returncode == 0, ran.stderr
    assert len(hooks.asked("az deployment group create")) == 1
    assert f"From a machine in its network: curl http://{nobody}/api/health" in ran.stdout


def test_it_waits_until_the_app_s_roles_take_effect(hooks: Hooks) -> None:
    hooks.health[:] = [UNWELL, UNWELL, WELL]
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0
    assert ran.stdout.count("Waiting for the app to be healthy") == 2


def test_an_app_that_stays_unhealthy_says_why(hooks: Hooks) -> None:
    hooks.health[:] = [UNWELL]
    ran = hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert "missing_role" in ran.stderr


# What a proxy, a gateway or a broken tool may answer in place of Azure, as the fake `az` writes it.
STRANGE = {
    "nothing": "",
    "null": "null",
    "a page": PAGE.replace("\n", "\\n"),
    "bytes": r"\0000\0001\0033[2J\0377\0376",
    "a page and an error": r"ERROR: 502 <html>\nBad gateway</html>",
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_only_a_true_of_az_counts(hooks: Hooks, strange: str) -> None:
    hooks.answers("sync", strange)
    hooks.answers("function", strange, "true")
    hooks.answers("key", strange, strange, "true")
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("Waiting for the app to start (function listed: false, webhook key: false)") == 1
    assert ran.stdout.count("Waiting for the app to start (function listed: true, webhook key: false)") == 1
    assert "\x1b" not in ran.stdout


@pytest.mark.parametrize("strange", ["a page", "a page and an error"])
def test_a_page_that_az_shows_is_reported_in_one_line(hooks: Hooks, strange: str) -> None:
    hooks.answers("key", STRANGE[strange])
    ran = hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    [line] = ran.stderr.strip().splitlines()
    assert "webhook key: false" in line
    assert "html>" in line


def test_a_page_instead_of_event_grid_is_cut_short(hooks: Hooks) -> None:
    hooks.answers("deployment", "ERROR: <html>" + "x" * 10_000)
    ran = hooks.run("postdeploy")
    assert ran.returncode == 1
    assert "<html>xxx" in ran.stderr
    assert len(ran.stderr) < 3_000


STRANGE_HEALTH = {
    "a page with 200": (Answer(200, PAGE.encode(), "text/html"), "Sign in to the network"),
    "a page as bytes": (Answer(200, PAGE.encode()), "Sign in to the network"),
    "nothing with 200": (Answer(200, b"", "application/json"), "status 200"),
    "other JSON with 200": (Answer(200, b'{"status":"starting"}', "application/json"), '"starting"'),
    "bytes of no text": (Answer(200, b"\x00\x01\x1b[2J\xff\xfe", "application/octet-stream"), "status 200"),
    "JSON of no type": (Answer(503, UNWELL.body), "missing_role"),
    "a gateway's page": (Answer(502, b"<html>Bad gateway</html>", "text/html; charset=utf-8"), "Bad gateway"),
    "nothing with 503": (Answer(503, b""), "status 503"),
    "a way round in circles": (Answer(302, b"", location="/api/health"), "not healthy"),
}


@pytest.mark.parametrize(("strange", "said"), STRANGE_HEALTH.values(), ids=STRANGE_HEALTH)
def test_only_the_app_s_own_answer_counts_as_healthy(hooks: Hooks, strange: Answer, said: str) -> None:
    hooks.health[:] = [strange]
    ran = hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Byte[]" not in ran.stderr
    assert "\x1b" not in ran.stderr


def test_an_app_that_does_not_answer_is_reported_as_such(hooks: Hooks, nobody: str) -> None:
    ran = hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0", FUNCTION_APP_URL=f"http://{nobody}")
    assert ran.returncode == 1
    assert re.search("refused|connect", ran.stderr)
    assert "status 000" in ran.stderr


def test_the_app_s_answer_is_understood_however_its_json_is_laid_out(hooks: Hooks) -> None:
    hooks.health[:] = [Answer(200, b'{ "status": "ok" }\n')]
    assert hooks.run("postdeploy", POSTDEPLOY_TIMEOUT="0").returncode == 0


ACCOUNT = (
    "/subscriptions/another/resourceGroups/rg-photographs/providers/Microsoft.Storage/storageAccounts/stphotographs"
)
TOPIC = "/subscriptions/another/resourceGroups/rg-events/providers/Microsoft.EventGrid/systemTopics/photographs"


def test_subscriptions_are_made_where_the_topic_is_and_under_names_of_their_own_where_others_use_it(
    hooks: Hooks,
) -> None:
    assert hooks.run("postdeploy").returncode == 0
    assert hooks.run("postdeploy", DATA_ACCOUNT_ID=ACCOUNT, EVENT_TOPIC_ID=TOPIC).returncode == 0
    ours, theirs = hooks.asked("az deployment group create")
    app = OUTPUTS["FUNCTION_APP_NAME"]
    assert " --subscription the-subscription --resource-group rg-pictures " in ours
    assert " namePrefix= mark=image-embeddings/" in ours
    assert " --subscription another --resource-group rg-events " in theirs
    assert f" systemTopicName=photographs dataAccountId={ACCOUNT} " in theirs
    assert f" functionAppName={app} functionAppSubscription=the-subscription functionAppGroup=rg-pictures " in theirs
    assert f" namePrefix={app}- mark=image-embeddings/" in theirs


def test_without_images_there_is_nothing_to_offer(hooks: Hooks) -> None:
    ran = hooks.run("postdeploy")
    assert "/api/reconcile" not in ran.stdout
    assert hooks.posts == [("/api/reconcile", KEY, '{"dry_run": true}')]


def test_where_each_image_has_its_embedding_that_is_said(hooks: Hooks) -> None:
    hooks.audits[:] = [audit(1200, 0)]
    ran = hooks.run("postdeploy")
    assert "The container images has 1200 images, and each has its embedding." in ran.stdout
    assert len(hooks.posts) == 1


def test_nobody_at_a_terminal_is_asked_and_the_command_is_printed(hooks: Hooks) -> None:
    hooks.audits[:] = [audit(1200, 1100)]
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0, ran.stderr
    assert "The container images has 1200 images, of which 1100 have no embedding yet." in ran.stdout
    assert "azd env set BACKFILL true; then: azd hooks run postdeploy" in ran.stdout
    assert len(hooks.posts) == 1


def test_an_audit_that_is_not_done_has_counted_at_least_so_many(hooks: Hooks) -> None:
    hooks.audits[:] = [audit(30_000_000, 29_000_000, finished_at=None)]
    ran = hooks.run("postdeploy")
    assert "has at least 30000000 images, of which at least 29000000 have no embedding yet" in ran.stdout


@pytest.mark.parametrize("setting", ["true", "True", "1"])
def test_a_backfill_that_is_asked_for_starts(hooks: Hooks, setting: str) -> None:
    hooks.audits[:] = [audit(1200, 1100)]
    ran = hooks.run("postdeploy", BACKFILL=setting)
    assert ran.returncode == 0, ran.stderr
    assert "The backfill has started." in ran.stdout
    assert hooks.posts[1:] == [("/api/reconcile", KEY, "{}")]


def test_a_backfill_that_cannot_start_says_why(hooks: Hooks) -> None:
    hooks.audits[:] = [audit(1200, 1100), UNWELL]
    ran = hooks.run("postdeploy", BACKFILL="true")
    assert ran.returncode == 1
    assert "(status 503)" in ran.stderr
    assert "missing_role" in ran.stderr


@pytest.mark.parametrize(("answer", "starts"), [(b"y\n", True), (b"\n", False), (b"no\n", False)])
def test_somebody_at_a_terminal_is_asked(hooks: Hooks, answer: bytes, starts: bool) -> None:
    hooks.audits[:] = [audit(1200, 1100)]
    terminal, theirs = pty.openpty()
    try:
        os.write(terminal, answer)
        hooks.stdin = theirs
        ran = hooks.run("postdeploy")
    finally:
        os.close(terminal)
        os.close(theirs)
    assert ran.returncode == 0, ran.stderr
    assert "Start now? [y/N]" in ran.stdout
    assert len(hooks.posts) == 1 + starts
    assert ("azd env set BACKFILL true" in ran.stdout) != starts


@pytest.mark.parametrize("settings", [{"CI": "true"}, {"BACKFILL": "false"}])
def test_a_pipeline_is_not_asked_and_neither_is_who_has_said_no(hooks: Hooks, settings: dict[str, str]) -> None:
    hooks.audits[:] = [audit(1200, 1100)]
    terminal, theirs = pty.openpty()
    try:
        hooks.stdin = theirs
        ran = hooks.run("postdeploy", **settings)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert "Start now?" not in ran.stdout
    assert len(hooks.posts) == 1


@pytest.mark.parametrize(
    ("model", "calls", "tpm", "rpm"),
    [
        ("embed-v-4-0", 1_000_000, 300_000, 300),
        ("embed-v-4-0", 1_000_000, 3_000_000, 300),
        ("Cohere-Embed-V5-Fast", 12_345, 3_000_000, 0),
        ("Cohere-embed-v3-english", 250_000, 60_000, 0),
        # Here the cores decide.
        ("embed-v-4-0", 5_000_000, 1_000_000_000, 0),
    ],
)
def test_hours_and_money_are_those_of_the_plan(hooks: Hooks, model: str, calls: int, tpm: int, rpm: int) -> None:
    # Azure counts some limits for ten seconds.
    limits = rf"token {tpm}.0 60\nrequest {rpm // 6}.0 10" if rpm else f"token {tpm}.0 60"
    hooks.answers("limits", limits)
    hooks.audits[:] = [audit(calls, calls)]
    known = MODELS[model]
    ran = hooks.run("postdeploy", IMAGE_TOKENS=str(known["tokens"]), MILLION_TOKENS_COST=known["price"])
    found = re.search(
        r"takes about ([\d.]+) hours, and costs about US\$ ([\d.]+) for the model and at most US\$ ([\d.]+)", ran.stdout
    )
    assert found, ran.stdout
    planned = plan(Backlog(images=calls, model_name=model, tpm=tpm, rpm=rpm))
    hours, money, others = (float(number) for number in found.groups())
    assert hours == pytest.approx(planned.hours, abs=0.06)
    assert money == pytest.approx(planned.money["model"], abs=0.006)
    rest = sum(planned.money.values()) - planned.money["model"]
    # The plan takes off what is free every month.
    assert rest - 0.01 <= others <= 1.1 * rest + 4


@pytest.mark.parametrize("model", MODELS)
def test_the_template_knows_the_tokens_of_an_image_as_the_plan_does(model: str) -> None:
    one = plan(Backlog(images=1_000_000, model_name=model, tpm=60, share=1))
    assert one.rate == pytest.approx(1 / MODELS[model]["tokens"])
    assert OUTPUTS["IMAGE_TOKENS"] == str(MODELS["embed-v-4-0"]["tokens"])


def test_a_price_of_ones_own_is_named_so(hooks: Hooks) -> None:
    hooks.audits[:] = [audit(1000, 1000)]
    ran = hooks.run("postdeploy", TOKEN_PRICE="2", MILLION_TOKENS_COST="2")
    assert "costs about 3.22 (by TOKEN_PRICE) for the model" in ran.stdout


def test_where_azure_does_not_say_what_the_deployment_allows_there_is_the_money(hooks: Hooks) -> None:
    hooks.answers("limits", "ERROR: no right")
    hooks.audits[:] = [audit(1000, 1000)]
    ran = hooks.run("postdeploy")
    assert "costs about US$ 0.19 for the model" in ran.stdout
    assert "how long it takes, and what else it costs, is not known" in ran.stdout


@pytest.mark.parametrize("why", ["no key", "no answer", "a page"])
def test_images_that_cannot_be_counted_do_not_fail_a_deployment(hooks: Hooks, why: str) -> None:
    if why == "no key":
        hooks.answers("function-key", "ERROR: no right")
    elif why == "no answer":
        hooks.audits[:] = [UNWELL]
    else:
        hooks.audits[:] = [Answer(200, b"<html>Sign in</html>", "text/html")]
    ran = hooks.run("postdeploy")
    assert ran.returncode == 0, ran.stderr
    assert ("It could not be counted" in ran.stdout) == (why != "a page")


SERVICE = "/subscriptions/another/resourceGroups/rg-search/providers/Microsoft.Search/searchServices/srch-all"
OURS = (
    f"The records of {OUTPUTS['ADDITIONS_MARK'].replace('0' * 8 + '-0000-0000-0000-' + '0' * 12, 'the-subscription')}"
)


def definitions(hooks: Hooks) -> list[dict[str, object]]:
    """What was put on the search service, in this order."""
    decoder, found = json.JSONDecoder(), []
    text = (hooks.folder / "put").read_text().strip()
    while text:
        item, end = decoder.raw_decode(text)
        found.append(item)
        text = text[end:].strip()
    return found


def test_index_data_source_and_indexer_are_put_on_the_search_service(hooks: Hooks) -> None:
    ran = hooks.run("postdeploy", SEARCH_SERVICE_ID=SERVICE, DATA_ACCOUNT_ID=ACCOUNT)
    assert ran.returncode == 0, ran.stderr
    index, source, indexer = definitions(hooks)
    assert [item["name"] for item in (index, source, indexer)] == ["images", "image-embeddings", "image-embeddings"]
    told = (hooks.folder / "put").read_text()
    assert "<" not in told
    assert f'"connectionString": "ResourceId={ACCOUNT}/;"' in told
    assert f'"dimensions": {OUTPUTS["VECTOR_LENGTH"]},' in told
    assert f'"query": "{OUTPUTS["EMBEDDING_SPACE"]}/images/"' in told
    assert f'"x-functions-key": "{KEY}"' in told
    assert source["description"] == OURS
    puts = hooks.asked("az rest --method put")
    objects = ("indexes/images", "datasources/image-embeddings", "indexers/image-embeddings")
    for put, item in zip(puts, objects, strict=True):
        assert f"--url https://srch-all.search.windows.net/{item}?api-version=" in put
        assert "--resource https://search.azure.com" in put


def test_a_key_for_the_vectorizer_is_made_once(hooks: Hooks) -> None:
    hooks.answers("vectorizer-key", "None", KEY)
    hooks.answers("new-vectorizer-key", KEY)
    for _ in range(2):
        assert hooks.run("postdeploy", SEARCH_SERVICE_ID=SERVICE).returncode == 0
    [made_once] = hooks.asked("az functionapp function keys set")
    assert "--function-name vectorizer --key-name search" in made_once


def test_a_role_that_is_new_is_waited_for(hooks: Hooks) -> None:
    hooks.answers("search-put", "ERROR: Forbidden", "")
    ran = hooks.run("postdeploy", SEARCH_SERVICE_ID=SERVICE)
    assert ran.returncode == 0, ran.stderr
    assert "could not be put on the search service yet" in ran.stdout
    assert "ERROR: Forbidden" in ran.stdout


def test_a_role_that_is_missing_ends_with_its_name(hooks: Hooks) -> None:
    hooks.answers("search-put", "ERROR: Forbidden")
    ran = hooks.run("postdeploy", SEARCH_SERVICE_ID=SERVICE, POSTDEPLOY_TIMEOUT="0")
    assert ran.returncode == 1
    assert "needs the role Search Service Contributor there" in ran.stderr


@pytest.mark.parametrize(
    ("there", "ours"),
    [
        ({"search-image-embeddings": OURS, "search-images": "images"}, True),
        ({"search-image-embeddings": "of another app"}, False),
        ({"search-images": "images"}, False),
    ],
)
def test_an_index_of_somebody_else_is_not_replaced(hooks: Hooks, there: dict[str, str], ours: bool) -> None:
    for item, answer in there.items():
        hooks.answers(item, answer)
    ran = hooks.run("postdeploy", SEARCH_SERVICE_ID=SERVICE)
    assert ran.returncode == (0 if ours else 1), ran.stderr
    assert ("of somebody else" in ran.stderr) != ours
    assert len(hooks.asked("az rest --method put")) == 3 * ours
