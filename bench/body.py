"""How long it takes to make the body of a request to the model from a PNG."""

from bench import photographs
from bench.app import LIMITS, SETTINGS
from bench.figures import Figure, Measurement
from bench.timing import speed_up
from bench.usual import pictures as usual
from shared.model.foundry import request
from shared.model.wire_format import Input, ModelOptions


def _of_5mb() -> Measurement:
    """From a PNG's bytes to the bytes of the JSON body, with base64: ours in the parts that are sent, the usual in one.

    Both run in a process that has prepared a picture, like a worker: from then on the C library keeps memory of that
    size instead of requesting each megabyte from the system, which would cost more than everything else.
    """
    usual.prepare(photographs.jpeg_12mp().read_bytes(), LIMITS.model_max_pixels)
    png = photographs.png_5mb().read_bytes()
    model = SETTINGS.foundry_model
    return speed_up(
        lambda: request(model, [Input(png)], ModelOptions("document")),
        lambda: usual.request_body(png, model),
        rounds=101,
    )


FIGURES = [Figure("request_body_5mb_vs_usual", "x", "higher", 20, _of_5mb)]
