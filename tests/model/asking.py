"""Calls to the model, as tests make them."""

from shared.model.client import MAX_TOTAL_WAIT, ModelClient, Schedule
from shared.model.wire_format import Input, InputType, ModelAnswer, ModelOptions
from tests.conftest import Cloud
from tests.drawing import picture


def within(seconds: float) -> Schedule:
    return Schedule.of(MAX_TOTAL_WAIT, seconds)


def options(cloud: Cloud, input_type: InputType = "document") -> ModelOptions:
    return ModelOptions(input_type, cloud.settings.embedding_dimensions)


def embed_picture(cloud: Cloud, client: ModelClient | None = None, text: str | None = None) -> list[float]:
    """Embed a picture by this client, or by one of its own."""
    return (client or cloud.model_client()).embed(Input(picture(), text), options(cloud), within(60)).embedding


def embed_text(cloud: Cloud, client: ModelClient | None = None, text: str = "red") -> ModelAnswer:
    """Embed a text by this client, or by one of its own."""
    return (client or cloud.model_client()).embed(Input(text=text), options(cloud, "query"), within(60))
