"""What Microsoft's storage extension does with what it is sent: the cases that the stand-in is held to.

Measured in November 2026 with Microsoft.Azure.WebJobs.Extensions.Storage.Blobs and .Queues 5.3.10 on
Microsoft.Azure.WebJobs 3.0.48 and .NET 10, over Azurite 3.37.0.
"""

from typing import Any, NamedTuple

FUNCTION = "by_name"


class Delivery(NamedTuple):
    """A delivery to the webhook, for a blob that exists. `{url}` in its body stands for the blob's URL."""

    what: str
    body: str
    status: int
    runs: bool = False
    """Whether a function runs for the blob."""
    function_name: str = f"Host.Functions.{FUNCTION}"
    kind: str = "Notification"
    container: str = "pictures"
    answer: str = ""


def event(data: str = '"url": "{url}", "eTag": "0x1", "blobType": "BlockBlob"', kind: str = "BlobCreated") -> str:
    return '{"eventType": "Microsoft.Storage.' + kind + '", "data": {' + data + "}}"


CLOUD_EVENT = event().replace('"eventType"', '"specversion": "1.0", "source": "/storage", "id": "1", "type"')
VALIDATION = '{"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "512"}}'
CODE = '{"validationResponse":"512"}'

DELIVERIES = [
    Delivery("an event", f"[{event()}]", 202, runs=True),
    Delivery("the function's bare name", f"[{event()}]", 202, runs=True, function_name=FUNCTION),
    Delivery("no such function", f"[{event()}]", 202, function_name="Host.Functions.nobody"),
    Delivery("another prefix", f"[{event()}]", 202, function_name=f"Functions.{FUNCTION}"),
    Delivery("another case", f"[{event()}]", 202, function_name=f"host.functions.{FUNCTION}"),
    Delivery("the prefix alone", f"[{event()}]", 202, function_name="Host.Functions."),
    Delivery("an empty function name", f"[{event()}]", 202, function_name=""),
    Delivery("an event that is in no list", event(), 202, runs=True),
    Delivery("two events", f"[{event()}, {event()}]", 202, runs=True),
    Delivery("no events", "[]", 202),
    Delivery("a CloudEvent", CLOUD_EVENT, 202, runs=True),
    Delivery("a deletion", f"[{event(kind='BlobDeleted')}]", 202, runs=True),
    Delivery("another container", f"[{event()}]", 202, runs=True, container="elsewhere"),
    Delivery("no eTag", f"[{event('"url": "{url}", "blobType": "BlockBlob"')}]", 202, runs=True),
    Delivery("a page blob", f"[{event('"url": "{url}", "blobType": "PageBlob"')}]", 202, runs=True),
    Delivery("an unknown type of blob", f"[{event('"url": "{url}", "blobType": "Odd"')}]", 500),
    Delivery("no type of blob", f"[{event('"url": "{url}", "eTag": "0x1"')}]", 500),
    Delivery("no URL", f"[{event('"eTag": "0x1", "blobType": "BlockBlob"')}]", 500),
    Delivery("no absolute URL", f"[{event('"url": "pictures/a", "blobType": "BlockBlob"')}]", 500),
    Delivery("no data", '[{"eventType": "Microsoft.Storage.BlobCreated"}]', 500),
    Delivery("a good event, then a bad one", f"[{event()}, {event('"eTag": "0x1"')}]", 500, runs=True),
    Delivery("a list of other things", '["event"]', 500),
    Delivery("a string", '"event"', 500),
    Delivery("null", "null", 500),
    Delivery("no JSON", "{event", 500),
    Delivery("nothing", "", 500),
    Delivery("a type of call in another case", f"[{event()}]", 202, runs=True, kind="notification"),
    Delivery("a question", f"[{VALIDATION}]", 200, kind="SubscriptionValidation", answer=CODE),
    Delivery("a question that is in no list", VALIDATION, 200, kind="SubscriptionValidation", answer=CODE),
    Delivery(
        "a question for no function",
        f"[{VALIDATION}]",
        200,
        function_name="",
        kind="SubscriptionValidation",
        answer=CODE,
    ),
    Delivery("a question without a code", "[{}]", 500, kind="SubscriptionValidation"),
    Delivery("a question that is no JSON", "?", 500, kind="SubscriptionValidation"),
    Delivery("the end of a subscription", "[]", 202, kind="Unsubscribe"),
    Delivery("another type of call", "[]", 400, kind="Other"),
    Delivery("no type of call", "[]", 400, kind=""),
]

# The URL of an event after the container, and the name of the blob for which the function runs.
NAMES = {
    "a b.jpg": "a b.jpg",
    "a%20b.jpg": "a b.jpg",
    "100%.jpg": "100%.jpg",
    "100%25.jpg": "100%.jpg",
    "a#b.jpg": "a#b.jpg",
    "a%23b.jpg": "a#b.jpg",
    "a%2520b.jpg": "a%20b.jpg",
    "q?x=1.jpg": "q",
    "q%3Fx=1.jpg": "q?x=1.jpg",
    "/x.jpg": "x.jpg",
    "%2Fx.jpg": "x.jpg",
    "d//x.jpg": "d//x.jpg",
    "d%2F%2Fx.jpg": "d//x.jpg",
    "a/": "a",
    "a//": "a",
    "back\\slash.jpg": "back/slash.jpg",
    "back%5Cslash.jpg": "back\\slash.jpg",
    "a/../q.jpg": "q.jpg",
    "a/%2E%2E/q.jpg": "q.jpg",
    "a/./q.jpg": "a/q.jpg",
    "a+b.jpg": "a+b.jpg",
    "a&b.jpg": "a&b.jpg",
    "ü.jpg": "ü.jpg",
    "%C3%BC/%F0%9F%8D%8B.jpg": "ü/🍋.jpg",
    "a:b.jpg": "a:b.jpg",
    "dot.": "dot.",
    "a/dot./b": "a/dot./b",
    "it's(1)!.jpg": "it's(1)!.jpg",
    "a%2Fb.jpg": "a/b.jpg",
    "sp%20": "sp ",
    "%20sp": " sp",
}

# These have no name left: whatever takes the message ends, and the next process too.
WITHOUT_A_NAME = ["", "/", "//", "/%2E%2E/q.jpg", "/../q.jpg"]

# The message of an upload that failed five times is the message that the webhook queued.
POISON_MESSAGE: dict[str, Any] = {
    "Type": "BlobTrigger",
    "FunctionId": "Host.Functions.by_name",
    "BlobType": "BlockBlob",
    "ContainerName": "pictures",
    "BlobName": "fails always",
    "ETag": '"0x1"',
}

# Seconds between the polls of a queue that stays empty, on average: each is up to a fifth shorter or longer.
PAUSES = [0.1, 0.2, 0.3, 0.5, 0.9, 1.7, 3.3, 6.5, 12.9, 25.7]
LONGEST_PAUSE = 60
