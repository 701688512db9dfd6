"""A stand-in for the Functions host, the .NET program that no package registry offers.

    python -m local.host --app DIR

It does what `func start` does for an app with HTTP, blob (Event Grid), queue and timer triggers: it reads host.json,
answers HTTP by the host's rules (route prefix, keys, empty 401, 404 and 500), takes Event Grid's webhook and polls
queues. The app runs in Microsoft's own worker library (`local.host.worker`).

What it leaves out: it starts no timer by itself (`POST /admin/functions/<name>` runs one now, as on Azure), polls no
container for blobs, writes no receipts, does not scale, and has no output bindings but HTTP's. Host and app share one
process and its CPU. One key, from FUNCTIONS_KEY in its environment, is function, system and master key at once. That
key and the host's storage connection are removed from the environment before the app is loaded.
"""
