"""host.json says only what the host understands, and agrees with the template about what runs at once."""

from typing import Annotated, Literal

import msgspec
import pytest

from proof import APP, simulation
from shared.uploads.waiting.dispatcher import PLACES
from tests.infra.deployments import ROOT, app_settings, made


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A part of host.json, with the names and ranges of the schema at https://json.schemastore.org/host.json."""


_Span = Annotated[str, msgspec.Meta(pattern=r"^[0-9][0-9]:[0-5][0-9]:[0-5][0-9]$")]


class _Blobs(_Strict):
    max_degree_of_parallelism: Annotated[int, msgspec.Meta(ge=1)]
    poison_blob_threshold: Annotated[int, msgspec.Meta(ge=1)]


class _Queues(_Strict):
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=32)]
    new_batch_threshold: Annotated[int, msgspec.Meta(ge=0)]
    max_dequeue_count: Annotated[int, msgspec.Meta(ge=1)]
    visibility_timeout: _Span
    max_polling_interval: _Span
    message_encoding: Literal["base64", "none"]


class _Extensions(_Strict):
    blobs: _Blobs
    queues: _Queues


class _Bundle(_Strict):
    id: Literal["Microsoft.Azure.Functions.ExtensionBundle"]
    version: Annotated[str, msgspec.Meta(pattern=r"^\[\d+\.\*, \d+\.\d+\.\d+\)$")]


class _Sampling(_Strict):
    is_enabled: bool
    excluded_types: Annotated[
        str, msgspec.Meta(pattern="^(Dependency|Event|Exception|PageView|Request|Trace)(;(Exception|Request|Trace))*$")
    ]


class _ApplicationInsights(_Strict):
    sampling_settings: _Sampling


class _Logging(_Strict):
    log_level: dict[str, Literal["Trace", "Debug", "Information", "Warning", "Error", "Critical", "None"]]
    application_insights: _ApplicationInsights


class _Host(_Strict):
    version: Literal["2.0"]
    function_timeout: _Span
    extension_bundle: _Bundle
    extensions: _Extensions
    logging: _Logging


def host() -> _Host:
    return msgspec.json.decode((ROOT / "host.json").read_bytes(), type=_Host)


def test_host_json_says_only_what_the_host_understands() -> None:
    assert host().extensions.queues.max_dequeue_count == host().extensions.blobs.poison_blob_threshold


def test_the_proof_runs_as_much_at_once() -> None:
    assert (APP / "host.json").read_text() == (ROOT / "host.json").read_text()
    blobs, queues = host().extensions.blobs, host().extensions.queues
    at_once = blobs.max_degree_of_parallelism, queues.batch_size + queues.new_batch_threshold
    assert at_once == (simulation._UPLOADS, simulation._MESSAGES)


def test_the_dispatcher_knows_how_many_messages_an_instance_takes() -> None:
    queues = host().extensions.queues
    assert queues.batch_size + queues.new_batch_threshold == PLACES


def test_log_lines_are_never_sampled_since_alerts_count_them() -> None:
    assert "Trace" in host().logging.application_insights.sampling_settings.excluded_types.split(";")


@pytest.mark.parametrize(("deployment", "uploads"), [("defaults", 16), ("every-setting", 64)])
def test_there_is_a_thread_for_everything_that_a_function_group_may_run_at_once(deployment: str, uploads: int) -> None:
    settings = app_settings(deployment)
    [app] = made(deployment, "Microsoft.Web/sites")
    queues = host().extensions.queues
    requests = app["properties"]["functionAppConfig"]["scaleAndConcurrency"]["triggers"]["http"][
        "perInstanceConcurrency"
    ]
    assert settings["AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism"] == str(uploads)
    largest = max(uploads, queues.batch_size + queues.new_batch_threshold, requests)
    assert largest < int(settings["PYTHON_THREADPOOL_THREAD_COUNT"])


def test_host_json_and_the_template_start_as_many_uploads_at_once() -> None:
    deployed = app_settings()["AzureFunctionsJobHost__extensions__blobs__maxDegreeOfParallelism"]
    assert host().extensions.blobs.max_degree_of_parallelism == int(deployed)
