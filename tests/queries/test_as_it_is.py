"""A query's picture goes to the model as what it is, where the model takes it."""

import pytest

import function_app
from tests.conftest import Cloud
from tests.drawing import data_url, picture
from tests.functions import call


@pytest.mark.parametrize("wire_format", ["cohere"], indirect=True)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_sent_as_what_it_is(cloud: Cloud, format: str) -> None:
    body = {"input": [{"image": data_url(picture(format=format)), "text": "red"}]}
    assert call(function_app.image_embeddings, body)[0] == 200
    assert call(function_app.image_embeddings, body)[0] == 200
    [sent] = cloud.model.calls(200)
    assert (sent["image_type"], sent["text"]) == (f"image/{format.lower()}", "red")
