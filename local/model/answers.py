"""What the stand-in for the model answers: one vector for each input, in the service's shape."""

import base64
import json
import uuid
import zlib

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import Response

from local.model import vectors
from local.model.behaviour import Numbers
from local.model.requests import EmbeddingsRequest, ImageRequest, TextRequest

type Vector = NDArray[np.float32]

TOKENS_PER_IMAGE = 1000


def embed(request: EmbeddingsRequest, pictures: list[Image.Image]) -> list[Vector]:
    """Return one vector for each input, in order. `pictures` are those of an image request, decoded."""
    if isinstance(request, TextRequest):
        features = [vectors.of_text(text) for text in request.input]
    else:
        features = [
            vectors.of_pair(picture, item.text) if item.text else vectors.of_picture(picture)
            for item, picture in zip(request.input, pictures, strict=True)
        ]
    return [vectors.project(each, request.model, request.length) for each in features]


def checksum_vectors(body: bytes, request: EmbeddingsRequest) -> list[Vector]:
    """Return vectors that say only whether two requests were the same."""
    random = np.random.default_rng(zlib.crc32(body))
    answers = random.standard_normal((len(request.input), request.length), dtype=np.float32)
    return list(answers / np.linalg.norm(answers, axis=1, keepdims=True))


def encoded(vector: Vector, request: EmbeddingsRequest) -> Numbers:
    """Return the numbers of a vector in the encoding that the request wants: floats or integers."""
    match request.encoding_format:
        case "int8" | "uint8" | "binary" | "ubinary" as encoding:
            return vectors.quantized(vector, encoding)
        case _:
            return vector


def embeddings_response(request: EmbeddingsRequest, answers: list[Numbers]) -> Response:
    """Make the 200: integers, numbers with nine decimals, like the service's, or base64 of little-endian float32."""
    texts = [item if isinstance(item, str) else item.text or "" for item in request.input]
    tokens = sum(len(text.split()) for text in texts)
    if isinstance(request, ImageRequest):
        tokens += TOKENS_PER_IMAGE * len(request.input)
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    data = [
        {"index": index, "object": "embedding", "embedding": _json(vector, request.encoding_format)}
        for index, vector in enumerate(answers)
    ]
    body = {"id": str(uuid.uuid4()), "object": "list", "data": data, "model": request.model, "usage": usage}
    headers = {"num_tokens": str(tokens), "azureml-model-group": f"offer-{request.model.lower()}-paygo"}
    return Response(json.dumps(body), headers=headers, media_type="application/json")


def _json(vector: Numbers, encoding_format: str | msgspec.UnsetType) -> str | list[float]:
    """A vector as it appears in the answer."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    whole = vector.dtype == np.int16
    numbers: list[float] = vector.tolist() if whole else vector.astype(np.float64).round(9).tolist()
    return numbers
