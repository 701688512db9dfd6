"""What it saves that the texts of one request are one call to the model, where each was a call of its own before.

Both ways run in this app's code, by turns, in a process of their own, before a model that takes 200 ms. Every text is
new, and every answer is stored. Storage and the model share the cores of this machine.
"""

import json
import os
import subprocess
import sys
from dataclasses import astuple
from functools import cache
from itertools import count
from unittest.mock import patch

import azure.functions as func
import httpx

from bench.figures import Figure, Measurement
from bench.proxy import IDENTITY, app_settings
from bench.timing import speed_up
from local import identity, stack
from local.azurite import REPO_ROOT

_TEXTS = 96
_LATENCY_MS = 200
_ROUNDS = 7


@cache
def _measured() -> tuple[Measurement, Measurement]:
    """The calls of one request, and how many times faster it is than with a call for each text."""
    with stack.running() as running, identity.running([IDENTITY]) as tokens:
        behaviour = {"latency_ms": _LATENCY_MS, "mode": "cheap"}
        httpx.post(f"{running.foundry_url}/admin/behaviour", json=behaviour).raise_for_status()
        environment = {**os.environ, **app_settings(running, tokens), "BENCH_FOUNDRY": running.foundry_url}
        command = [sys.executable, "-m", "bench.texts"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=REPO_ROOT)
    calls, times = json.loads(done.stdout)
    return Measurement.once(calls, f"{_TEXTS} texts in one request"), Measurement(*times)


def _alone() -> tuple[int, Measurement]:
    """The same in this process, which has the app settings."""
    import function_app
    from shared.model.client import ModelClient

    numbers = count()

    def ask() -> None:
        texts = [f"a red bicycle, number {next(numbers)}" for _ in range(_TEXTS)]
        request = func.HttpRequest("POST", "/", body=json.dumps({"input": texts}).encode())
        answer: func.HttpResponse = function_app.text_embeddings(request)
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(answer.get_body().decode())

    def ask_one_by_one() -> None:
        with patch.object(ModelClient, "max_inputs", return_value=1):
            ask()

    ask()
    made: int = httpx.get(f"{os.environ['BENCH_FOUNDRY']}/admin/calls").json()["total"]
    return made, speed_up(ask, ask_one_by_one, rounds=_ROUNDS)


FIGURES = [
    Figure("texts_96_calls", "calls", "lower", 1, lambda: _measured()[0]),
    Figure("texts_96_ms_vs_today", "x", "higher", 5, lambda: _measured()[1]),
]

if __name__ == "__main__":
    found = _alone()
    sys.stdout.write(json.dumps((found[0], astuple(found[1]))))
