"""Requests of Azure AI Search, as the service sends them."""

import base64
from typing import Any

import function_app
from tests.functions import call


def bare(data: bytes) -> str:
    return base64.b64encode(data).decode()


def envelope(*inputs: object) -> dict[str, Any]:
    return {"values": [{"recordId": str(index), "data": data} for index, data in enumerate(inputs)]}


def skill(*inputs: object) -> list[dict[str, Any]]:
    """The results for records with these inputs, from an answer of 200."""
    status, _, body = call(function_app.skill, envelope(*inputs))
    assert status == 200
    assert list(body) == ["values"]
    results: list[dict[str, Any]] = body["values"]
    assert [result["recordId"] for result in results] == [str(index) for index in range(len(inputs))]
    return results


def vectorizer(*inputs: object) -> tuple[int, dict[str, str], Any]:
    return call(function_app.vectorizer, envelope(*inputs))


def error_of(result: dict[str, Any]) -> str:
    assert result["data"] == {}
    [error] = result["errors"]
    message: str = error["message"]
    return message
