"""Microsoft's Python client, as it is, gets from the app what it gets from the service, wherever it looks."""

import asyncio
import base64
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from azure.ai.inference import EmbeddingsClient, ImageEmbeddingsClient, load_client
from azure.ai.inference.aio import EmbeddingsClient as AsyncEmbeddingsClient
from azure.ai.inference.aio import ImageEmbeddingsClient as AsyncImageEmbeddingsClient
from azure.ai.inference.models import (
    EmbeddingEncodingFormat,
    EmbeddingInputType,
    EmbeddingsResult,
    ImageEmbeddingInput,
    ModelInfo,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.transport import AsyncioRequestsTransport, RequestsTransport
from PIL import Image

from local.stack import Stack
from tests.conftest import Model
from tests.wire_formats import COHERE, WireFormat

MODEL = "embed-v-4-0"
LENGTH = 1536


class Waiting(RequestsTransport):  # type: ignore[misc] # imported lazily: mypy sees no class
    """The client's own transport, which notes the waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def sleep(self, duration: float) -> None:
        self.waits.append(duration)


class AsyncWaiting(AsyncioRequestsTransport):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep(self, duration: float) -> None:
        self.waits.append(duration)


class Client:
    """Either kind of client, asked in the same words; `options` are those of its constructor."""

    def __init__(self, kind: Literal["sync", "async"], endpoint: str, key: str) -> None:
        self.kind = kind
        self.endpoint = endpoint
        self.options: dict[str, Any] = {"headers": {"x-functions-key": key}}
        self.waits: list[float] = []

    def images(self, *images: ImageEmbeddingInput, **options: Any) -> EmbeddingsResult:
        return cast(EmbeddingsResult, self._ask(images=True, call="embed", input=list(images), **options))

    def texts(self, *texts: str, **options: Any) -> EmbeddingsResult:
        return cast(EmbeddingsResult, self._ask(images=False, call="embed", input=list(texts), **options))

    def info(self) -> ModelInfo:
        return cast(ModelInfo, self._ask(images=True, call="get_model_info"))

    def _ask(self, *, images: bool, call: str, **arguments: Any) -> object:
        if self.kind == "async":
            return asyncio.run(self._ask_async(images=images, call=call, **arguments))
        transport = Waiting()
        self.waits = transport.waits
        with (ImageEmbeddingsClient if images else EmbeddingsClient)(
            self.endpoint, AzureKeyCredential("unused"), transport=transport, **self.options
        ) as client:
            return getattr(client, call)(**arguments)

    async def _ask_async(self, *, images: bool, call: str, **arguments: Any) -> object:
        transport = AsyncWaiting()
        self.waits = transport.waits
        async with (AsyncImageEmbeddingsClient if images else AsyncEmbeddingsClient)(
            self.endpoint, AzureKeyCredential("unused"), transport=transport, **self.options
        ) as client:
            return await getattr(client, call)(**arguments)


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, running: Stack, endpoint: str, model: Model) -> Client:
    """A client, and a model that behaves well and was asked nothing yet."""
    return Client(request.param, endpoint, running.functions_key)


@pytest.fixture
def red(tmp_path: Path) -> ImageEmbeddingInput:
    return picture(tmp_path, "red")


def picture(folder: Path, colour: str, text: str | None = None) -> ImageEmbeddingInput:
    file = folder / f"{colour}.png"
    Image.new("RGB", (80, 60), colour).save(file)
    return ImageEmbeddingInput.load(image_file=str(file), image_format="png", text=text)


def vectors(answer: EmbeddingsResult) -> list[list[float]]:
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    found = [item.embedding for item in answer.data]
    assert all(isinstance(vector, list) for vector in found)
    return cast(list[list[float]], found)


# What comes back


def test_an_image_gives_the_whole_answer(client: Client, red: ImageEmbeddingInput) -> None:
    answer = client.images(red)
    [vector] = vectors(answer)
    assert (len(vector), {type(number) for number in vector}) == (LENGTH, {float})
    assert (answer.model, bool(answer.id)) == (MODEL, True)
    assert answer.usage.total_tokens in {0, 1000}, "nothing where another test has asked already"


def test_several_images_with_and_without_text_come_in_order(client: Client, tmp_path: Path) -> None:
    inputs = [picture(tmp_path, "red"), picture(tmp_path, "blue", "a blue thing"), picture(tmp_path, "blue")]
    together = vectors(client.images(*inputs))
    assert together == [vector for each in inputs for vector in vectors(client.images(each))]
    assert together[1] != together[2]


def test_texts_come_in_order(client: Client) -> None:
    together = vectors(client.texts("red", "naïve — 青い", "blue"))
    assert together == [vector for each in ("red", "naïve — 青い", "blue") for vector in vectors(client.texts(each))]


def test_an_image_that_the_sdk_calls_jpg_will_do(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    Image.new("CMYK", (300, 200), "green").save(file)
    image = ImageEmbeddingInput.load(image_file=str(file), image_format="jpg")
    assert len(vectors(client.images(image))[0]) == LENGTH


def test_info_says_which_model_answers(client: Client) -> None:
    info = client.info()
    assert (info.model_name, info.model_type, info.model_provider_name) == (MODEL, "embeddings", "Cohere")


def test_load_client_finds_a_client_for_the_model(running: Stack, endpoint: str) -> None:
    key = {"x-functions-key": running.functions_key}
    found = load_client(endpoint, AzureKeyCredential("unused"), headers=key)
    assert isinstance(found, EmbeddingsClient)
    with found as client:
        assert len(client.embed(input=["red"]).data) == 1


# How it gets in


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("way", ["header", "code"])
def test_the_key_goes_into_a_header_or_into_the_endpoint(client: Client, running: Stack, slash: str, way: str) -> None:
    client.endpoint += slash
    if way == "code":
        client.options = {}
        client.endpoint += f"?code={running.functions_key}"
    assert len(vectors(client.texts("red"))) == 1
    assert client.info().model_name == MODEL


# Options


@pytest.mark.parametrize("dimensions", [256, 512, 1024])
def test_a_vector_has_the_dimensions_asked_for(
    client: Client, model: Model, red: ImageEmbeddingInput, dimensions: int
) -> None:
    # Words of this kind of client alone: nothing of what it asks is in the cache.
    words = f"{client.kind}, in so many dimensions"
    [image] = vectors(client.images(ImageEmbeddingInput(image=red.image, text=words), dimensions=dimensions))
    [text] = vectors(client.texts(words, dimensions=dimensions))
    assert (len(image), len(text)) == (dimensions, dimensions)
    assert [call["dimensions"] for call in model.calls()] == [dimensions, dimensions]


@pytest.mark.parametrize("kind", [EmbeddingInputType.TEXT, EmbeddingInputType.QUERY, EmbeddingInputType.DOCUMENT])
def test_input_type_reaches_the_model(
    client: Client, model: Model, wire_format: WireFormat, red: ImageEmbeddingInput, kind: EmbeddingInputType
) -> None:
    text = f"{client.kind} {kind.value}"
    client.texts(text, input_type=kind)
    image = ImageEmbeddingInput(image=red.image, text=text)
    client.images(image, input_type=kind)
    assert [(call["route"], call["input_type"]) for call in model.calls()] == [
        (wire_format.text_route, wire_format.input_types[kind.value]),
        (wire_format.image_route, wire_format.input_types[kind.value]),
    ]


def test_base64_holds_the_same_numbers_as_the_floats(client: Client, red: ImageEmbeddingInput) -> None:
    for ask in (partial(client.images, red), partial(client.texts, "red")):
        [floats] = vectors(ask(encoding_format=EmbeddingEncodingFormat.FLOAT))
        packed = ask(encoding_format=EmbeddingEncodingFormat.BASE64).data[0].embedding
        assert isinstance(packed, str)
        assert struct.unpack(f"<{LENGTH}f", base64.b64decode(packed)) == pytest.approx(floats, abs=1e-7)


@pytest.mark.parametrize(
    ("encoding", "length", "lowest", "highest"),
    [
        (EmbeddingEncodingFormat.INT8, LENGTH, -128, 127),
        (EmbeddingEncodingFormat.UINT8, LENGTH, 0, 255),
        (EmbeddingEncodingFormat.BINARY, LENGTH // 8, -128, 127),
        (EmbeddingEncodingFormat.UBINARY, LENGTH // 8, 0, 255),
    ],
)
def test_an_integer_encoding_gives_whole_numbers_within_its_range(
    client: Client, red: ImageEmbeddingInput, encoding: EmbeddingEncodingFormat, length: int, lowest: int, highest: int
) -> None:
    for answer in (client.images(red, encoding_format=encoding), client.texts("red", encoding_format=encoding)):
        [vector] = vectors(answer)
        assert (len(vector), {type(number) for number in vector}) == (length, {int})
        assert lowest <= min(vector) < max(vector) <= highest


def test_an_integer_encoding_has_fewer_numbers_where_fewer_dimensions_are_asked_for(client: Client) -> None:
    answer = client.texts("red", encoding_format=EmbeddingEncodingFormat.UBINARY, dimensions=256)
    assert len(vectors(answer)[0]) == 32


def test_the_model_may_be_named(client: Client, red: ImageEmbeddingInput) -> None:
    assert client.images(red, model=MODEL).model == MODEL
    with pytest.raises(HttpResponseError) as raised:
        client.texts("red", model="Embed-V-4-0")
    assert said(raised) == (400, "unknown_model", "Unknown model: Embed-V-4-0. This app serves embed-v-4-0.")


def test_extras_are_passed_through_to_the_model(client: Client, model: Model, red: ImageEmbeddingInput) -> None:
    image = ImageEmbeddingInput(image=red.image, text=client.kind)
    client.images(image, model_extras={"truncate": "END"})
    client.texts(client.kind, model_extras={"truncate": "START", "seed": 1})
    first, second = model.calls()
    assert (first["truncate"], second["truncate"]) == ("END", "START")
    assert "seed" in second["passed_on"]


def test_extras_that_the_model_refuses_are_an_error_with_its_status(client: Client, wire_format: WireFormat) -> None:
    with pytest.raises(HttpResponseError) as raised:
        client.texts("red", model_extras={"truncate": "MIDDLE"})
    assert said(raised)[:2] == (400 if wire_format is COHERE else 422, "refused_by_model")


def test_options_of_the_client_hold_for_every_call(client: Client, model: Model, wire_format: WireFormat) -> None:
    text = f"a text for the {client.kind} client"
    client.options |= {
        "dimensions": 512,
        "encoding_format": EmbeddingEncodingFormat.BASE64,
        "input_type": EmbeddingInputType.DOCUMENT,
        "model": MODEL,
        "model_extras": {"truncate": "NONE"},
    }
    packed = client.texts(text).data[0].embedding
    assert isinstance(packed, str)
    assert len(base64.b64decode(packed)) == 4 * 512
    [call] = model.calls()
    document = wire_format.input_types["document"]
    assert (call["dimensions"], call["input_type"], call["truncate"]) == (512, document, "NONE")


# Errors


def said(raised: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None, str | None]:
    """Status, code and message, from where the client's callers read them."""
    assert raised.value.error is not None
    return raised.value.status_code, raised.value.error.code, raised.value.error.message


def test_a_wrong_key_is_an_authentication_error(client: Client) -> None:
    client.options = {"headers": {"x-functions-key": "wrong"}}
    for ask in (client.info, lambda: client.texts("red")):
        with pytest.raises(ClientAuthenticationError) as raised:
            ask()
        assert raised.value.status_code == 401


def test_a_wrong_path_is_not_found(client: Client) -> None:
    client.endpoint += "/v1"
    with pytest.raises(ResourceNotFoundError):
        client.texts("red")


def test_every_bad_input_is_among_the_details(client: Client, model: Model, red: ImageEmbeddingInput) -> None:
    bad = [ImageEmbeddingInput(image="data:image/png;base64,?"), red, ImageEmbeddingInput(image="aGVsbG8=")]
    with pytest.raises(HttpResponseError) as raised:
        client.images(*bad[1:])
    assert raised.value.error is not None
    assert [(each.code, each.target) for each in raised.value.error.details] == [("not_an_image", "input[1].image")]
    with pytest.raises(HttpResponseError) as raised:
        client.texts("red", " ", "")
    assert said(raised) == (400, "invalid_request", "The text is empty.")
    assert raised.value.error is not None
    assert raised.value.error.target == "input[1]"
    assert [each.target for each in raised.value.error.details] == ["input[1]", "input[2]"]
    assert model.calls() == []


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda client: client.images(), 400, "invalid_request"),
        (lambda client: client.texts(*["red"] * 2049), 413, "invalid_request"),
        (lambda client: client.texts("red", dimensions=0), 400, "invalid_request"),
        (lambda client: client.texts("red", dimensions=300), 422, "parameter_not_supported"),
        (lambda client: client.texts("red", input_type="search_query"), 400, "invalid_request"),
        (lambda client: client.texts("red", encoding_format="int4"), 400, "invalid_request"),
        (lambda client: client.texts("data:image/png;base64,iVBORw0KGgo="), 400, "damaged_image"),
        (lambda client: client.images(ImageEmbeddingInput(image="https://example.com/a.png")), 400, "invalid_request"),
    ],
)
def test_what_the_caller_can_fix_is_not_asked_again(
    client: Client, ask: Callable[[Client], EmbeddingsResult], status: int, code: str
) -> None:
    with pytest.raises(HttpResponseError) as raised:
        ask(client)
    assert said(raised)[:2] == (status, code)
    assert cast(Any, raised.value.response).headers["x-ms-error-code"] == code
    assert client.waits == []


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("content_filter", 400, "content_filtered"), ("unauthorized", 502, "model_misconfigured")],
)
def test_what_the_model_says_comes_through(client: Client, model: Model, fault: str, status: int, code: str) -> None:
    model.behave(fault={"kind": fault})
    with pytest.raises(HttpResponseError) as raised:
        client.texts(f"{fault} for the {client.kind} client")
    assert said(raised)[:2] == (status, code)
    assert client.waits == []


# Retries: what the model says of a wait is read alike in both formats, and these tests wait

without_waiting_twice = pytest.mark.parametrize("spoken", ["foundry"], indirect=True)


@without_waiting_twice
def test_the_client_asks_again_when_the_model_is_down(client: Client, model: Model) -> None:
    model.behave(fault={"kind": "503", "times": 4})
    assert len(vectors(client.texts(f"down for the {client.kind} client"))) == 1
    assert client.waits == [5], "once, after the wait that the app named; the client waits only where it was told to"
    assert [call["status"] for call in model.calls()] == [503] * 4 + [200]


@without_waiting_twice
def test_a_throttled_client_asks_again_when_it_was_told_to_and_gets_an_answer(
    running: Stack, endpoint: str, model: Model
) -> None:
    """With a real wait: the model, the app and the client each have a clock of their own."""
    # A little longer than the app keeps a caller waiting.
    model.behave(throttle={"calls": 0, "window_s": 6})
    hasty = Client("async", endpoint, running.functions_key)
    hasty.options["retry_total"] = 0
    with pytest.raises(HttpResponseError) as raised:
        hasty.texts("a red thing that nobody has asked for")
    assert said(raised)[:2] == (429, "too_many_requests")
    assert cast(Any, raised.value.response).headers["retry-after"] == "6"
    model.behave()
    key = {"x-functions-key": running.functions_key}
    with EmbeddingsClient(endpoint, AzureKeyCredential("unused"), headers=key) as client:
        assert len(client.embed(input=["a red thing that nobody has asked for"]).data) == 1
    assert [call["status"] for call in model.calls()] == [429, 200]
