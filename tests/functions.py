"""The functions as the worker calls them, in a process of their own as far as a test can tell."""

import json
from typing import Any

import azure.functions as func

from shared import application as process


def start_anew() -> None:
    """End the application of this process: the next call makes another."""
    process._queues.cache_clear()
    if process._build.cache_info().currsize:
        process.application().close()
        process._build.cache_clear()


def call(function: Any, body: object) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of the answer to this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response: func.HttpResponse = function(func.HttpRequest(method="POST", url="/", body=content))
    return response.status_code, dict(response.headers), json.loads(response.get_body())


def bindings(blueprint: func.Blueprint, name: str) -> dict[str, Any]:
    """The trigger of a function, as the worker tells the host of it."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
    app.register_functions(blueprint)
    functions = {function.get_function_name(): function for function in app.get_functions()}
    trigger = functions[name].get_trigger()
    assert trigger is not None
    return dict(trigger.get_dict_repr())
