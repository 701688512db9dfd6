"""The routes behind the gallery, asked in this process."""

import json
from collections.abc import Mapping
from typing import Any

import azure.functions as func

import function_app


def ask(
    function: str, name: str | None = None, /, *, headers: Mapping[str, str] | None = None, **parameters: Any
) -> func.HttpResponse:
    """The response of a function to these parameters of the query string, for the image of this name."""
    route = {} if name is None else {"name": name}
    request = func.HttpRequest("GET", "/", body=b"", params=parameters, route_params=route, headers=dict(headers or {}))
    answer: func.HttpResponse = getattr(function_app, function)(request)
    return answer


def answered(function: str, name: str | None = None, /, **parameters: Any) -> Any:
    """The JSON of a response that succeeds."""
    answer = ask(function, name, **parameters)
    assert answer.status_code == 200, answer.get_body()
    return json.loads(answer.get_body())


def refused(function: str, name: str | None = None, /, **parameters: Any) -> tuple[int, str, str | None]:
    """The status, code and target of an error."""
    answer = ask(function, name, **parameters)
    error = json.loads(answer.get_body())["error"]
    assert answer.headers["x-ms-error-code"] == error["code"]
    return answer.status_code, error["code"], error.get("target")


def asked_in_query(function: str, name: str, **parameters: str) -> func.HttpResponse:
    """The response where the name is a parameter of the query string, and nothing stands behind the route."""
    request = func.HttpRequest("GET", "/", body=b"", params={"name": name, **parameters}, route_params={"name": ""})
    answer: func.HttpResponse = getattr(function_app, function)(request)
    return answer
