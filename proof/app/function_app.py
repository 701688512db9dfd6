"""The app as it is deployed, with a clock of the proof's own: PROOF_SPEED makes it run faster, 0 lets it stand still.

PROOF_HIDDEN is by how much messages are hidden for less time than deployed, where that is not by the same factor.
Settings in the file that PROOF_SETTINGS names take the place of those in the environment, from the next start on.
"""

import json
import os
import runpy
from pathlib import Path

import azure.functions as func

from proof import clock, simulation

_DEPLOYED = Path(__file__).resolve().parents[2] / "function_app.py"

if settings := os.environ.get("PROOF_SETTINGS"):
    os.environ.update(json.loads(Path(settings).read_text()))
deployed = runpy.run_path(str(_DEPLOYED), run_name="deployed_function_app")
app: func.FunctionApp = deployed["app"]

speed = float(os.environ["PROOF_SPEED"])
fast = clock.FastClock(speed or 1, float(os.environ.get("PROOF_HIDDEN", 0)) or None)
standing = clock.StandingClock()
clock.install(fast if speed else standing)


@app.route("proof/skip", methods=["POST"])
def skip(req: func.HttpRequest) -> func.HttpResponse:
    """Set the time of day forward."""
    fast.skip(req.get_json()["seconds"])
    return func.HttpResponse()


@app.route("proof/simulate", methods=["POST"])
def simulate(req: func.HttpRequest) -> func.HttpResponse:
    """Sync images while time stands still unless all of them wait: see ``proof.simulation``."""
    return func.HttpResponse(simulation.run(req.get_body(), deployed["application"]().intake, standing))
