"""Runs of blob and queue functions on request, for a program that has Microsoft's own storage extension.

Such a program takes Event Grid's webhook, polls the queues, retries and moves to poison queues. For each invocation it
posts JSON to `/invocations/<function>`, with the names of a blob or with a queue message; 200 means that the function
succeeded, 500 that it failed. There is no key: the address is known to nobody else.
"""

import base64
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.host import worker
from local.host.functions import Functions
from local.host.worker import Blob, InvocationError, Message


class Invocations:
    """The functions of one app, run on request."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def routes(self) -> list[Route]:
        """The route of invocations, and the webhook's: events have to go to the extension."""
        return [
            Route("/invocations/{name}", self._run, methods=["POST"]),
            Route("/runtime/webhooks/blobs", self._elsewhere, methods=["POST"]),
        ]

    async def _run(self, request: Request) -> Response:
        name, sent = request.path_params["name"], await request.json()
        if blob_function := self._functions.find(name, "blobtrigger"):
            function, call = blob_function, worker.run_blob(blob_function, _blob(sent))
        elif queue_function := self._functions.find(name, "queuetrigger"):
            function, call = queue_function, worker.run_queue(queue_function, _message(sent))
        else:
            return Response(f"{name} is no function with a blob or queue trigger", status_code=404)
        try:
            await self._functions.run(function, call)
        except InvocationError as error:
            return Response(str(error), status_code=500)
        return Response()

    async def _elsewhere(self, request: Request) -> Response:
        return Response("the storage extension takes events, at its own address", status_code=404)


def _blob(sent: dict[str, Any]) -> Blob:
    """The names of a blob: all that a function sees of it."""
    return Blob(sent["container"], sent["name"], sent["uri"], properties={}, metadata={}, content=None)


def _message(sent: dict[str, Any]) -> Message:
    return Message(
        id=sent["id"],
        body=base64.b64decode(sent["body"]),
        dequeue_count=sent["dequeue_count"],
        inserted_on=datetime.fromisoformat(sent["inserted_on"]),
        expires_on=datetime.fromisoformat(sent["expires_on"]),
        next_visible_on=datetime.fromisoformat(sent["next_visible_on"]),
        pop_receipt=sent["pop_receipt"],
    )
