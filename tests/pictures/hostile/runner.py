"""Prepare hostile inputs, each in a process of its own, and report what became of them.

``python -m tests.pictures.hostile.runner NAME...`` writes one line of JSON for each name; without names it reads them,
one a line, and answers each before it reads the next. Each child is forked with the imports done and makes its input.
From then on it may take 1 GiB of address space (``RLIMIT_AS``) in addition to what it has: the interpreter and the
libraries, less than 0.1 GiB, and the input. Time is processor time, and that of a machine at its usual speed: a child
that took longer counts in the same process how slow the machine is at that moment. So neither a busy machine nor a
slow one fails the test. A child that only waits is ended later.
"""

import contextlib
import gc
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal, NoReturn, TypedDict, get_args

import png
from PIL import Image

from shared.errors import PictureCode, PictureError
from shared.pictures import convert  # noqa: F401 - imports the decoders before the children are forked
from shared.pictures.limits import Limits, Prepared
from shared.pictures.prepare import prepare
from tests.pictures.hostile import INPUTS

SECONDS = 5
BYTES = 2**30
# In wall-clock time: a child that hangs without working is ended, too. One that works may have to wait for its turn.
_MAX_WAIT_SECONDS = 60 * SECONDS
# How much slower than usual a machine may be: shared processors have been three times as slow.
_MAX_SLOWNESS = 6
# In processor time, with what is not measured: making the input and checking the result.
_MAX_TOTAL_SECONDS = 10 * SECONDS * _MAX_SLOWNESS
# What `_work` takes on an AMD EPYC at 2.45 GHz while nothing else runs; the least of 100 times was 0.028.
_USUAL_WORK_SECONDS = 0.03
# What Pillow says of files that hold nothing but pixels.
_OF_PIXELS = {
    *("srgb", "gamma", "jfif", "jfif_version", "jfif_unit", "jfif_density", "adobe", "adobe_transform"),
    *("progressive", "progression", "loop", "background", "timestamp", "duration"),
}


class Result(TypedDict):
    """What became of one input. ``end`` is ``prepared``, a failure code, or what went wrong instead.

    ``seconds`` are those of a machine at its usual speed.
    """

    name: str
    end: str
    message: str
    seconds: float
    megabytes: float
    stderr: str
    status: int


def violations(prepared: Prepared, limits: Limits) -> Iterator[str]:
    """What is wrong with a result, according to the limits and to its decoders: two if it is a PNG."""
    size = prepared.width, prepared.height
    kind = prepared.file_type.removeprefix("image/").upper()
    # A JPEG that is kept may have more.
    most = limits.image_max_pixels if kind == "JPEG" else limits.model_max_pixels
    if not 0 < prepared.width * prepared.height <= most:
        yield f"{size} is too many pixels, or none"
    if prepared.file_type not in limits.image_types:
        yield f"the model takes no {kind}"
    if len(prepared.file) > limits.model_max_bytes:
        yield f"{len(prepared.file)} bytes are too many"
    if prepared.original_width * prepared.original_height > limits.image_max_pixels:
        yield "the original has too many pixels"
    image = Image.open(BytesIO(prepared.file), formats=[kind])
    image.load()
    if image.size != size:
        yield f"the {kind} is {image.size}, not {size}"
    if image.mode not in {"L", "RGB", "RGBA"} or image.getexif() or set(image.info) - _OF_PIXELS:
        yield f"the {kind} is {image.mode} with {sorted(map(str, image.info))}"
    if kind != "PNG":
        return
    kinds = {kind for kind, _ in png.Reader(bytes=prepared.file).chunks()}
    if kinds != {b"IHDR", b"IDAT", b"IEND"}:
        yield f"the PNG has chunks {sorted(kinds)}"
    surplus = _surplus(prepared)
    if surplus:
        yield surplus
        return
    width, height, rows, info = png.Reader(bytes=prepared.file).read()
    if (width, height) != size or info["bitdepth"] != 8:
        yield f"the second decoder sees {width} x {height} pixels of {info['bitdepth']} bits"
    if sum(1 for row in rows if len(row) == width * info["planes"]) != height:
        yield "the PNG has too few or too many rows, or rows of the wrong length"


def _surplus(prepared: Prepared) -> str:
    """What is wrong if the pixels do not inflate to exactly their size: a bomb that passes would hurt the model."""
    chunks = list(png.Reader(bytes=prepared.file).chunks())
    channels = {0: 1, 2: 3, 6: 4}[chunks[0][1][9]]
    needed = prepared.height * (1 + prepared.width * channels)
    inflate = zlib.decompressobj()
    pixels = inflate.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"), needed + 1)
    if len(pixels) != needed or not inflate.eof or inflate.unused_data:
        return f"the PNG's pixels do not inflate to exactly {needed} bytes"
    return ""


def end_of(data: bytes, limits: Limits) -> tuple[str, str]:
    """``prepared`` or a failure code, with its message; any other end is named in words that are neither."""
    outcome = attempt(data, limits)
    return verdict(outcome, limits) if isinstance(outcome, Prepared) else outcome


def attempt(data: bytes, limits: Limits) -> Prepared | tuple[str, str]:
    """What ``prepare`` returns, or the code and message of what it raises."""
    try:
        return prepare(data, limits)
    except PictureError as error:
        cause = error.__cause__ or error.__context__
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "out of memory", f"{error.code}: {error}"
            cause = cause.__cause__ or cause.__context__
        return (error.code, str(error)) if error.code in get_args(PictureCode) else ("no such code", error.code)
    except Exception as error:  # noqa: BLE001 - any other exception is what the test looks for
        return type(error).__name__, "".join(traceback.format_exception(error, limit=-3))


def verdict(prepared: Prepared, limits: Limits) -> tuple[str, str]:
    """``prepared`` if the result is as promised, or what is wrong with it."""
    try:
        found = "; ".join(violations(prepared, limits))
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything about a wrong PNG
        found = f"a decoder fails on the PNG: {error!r}"
    return ("not as promised", found) if found else ("prepared", "")


def _address_space(what: Literal["VmSize", "VmPeak"]) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def _work() -> float:
    """The processor time of a fixed piece of work, in seconds: the interpreter's and a library's."""
    start = time.process_time()
    total = 0
    for number in range(500_000):
        total += number
    zlib.crc32(bytes(10_000_000))
    return time.process_time() - start


def _slowness() -> float:
    """How many times as long as usual the machine takes for the same work at this moment; at least 1."""
    return max(1.0, statistics.median(_work() for _ in range(9)) / _USUAL_WORK_SECONDS)


def _child(name: str, results: int, stderr: int) -> NoReturn:
    os.dup2(stderr, 2)
    hostile = INPUTS[name]
    data = hostile.make()
    before = 0
    if sys.platform == "linux":
        before = _address_space("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (before + BYTES, before + BYTES))
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + SECONDS * _MAX_SLOWNESS, _MAX_TOTAL_SECONDS))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    signal.alarm(_MAX_WAIT_SECONDS)
    start = time.process_time()
    outcome = attempt(data, hostile.limits)
    seconds = time.process_time() - start
    peak = _address_space("VmPeak") - before if sys.platform == "linux" else 0
    resource.setrlimit(resource.RLIMIT_CPU, (_MAX_TOTAL_SECONDS, _MAX_TOTAL_SECONDS))
    if seconds > SECONDS:
        seconds /= _slowness()
    end, message = verdict(outcome, hostile.limits) if isinstance(outcome, Prepared) else outcome
    os.write(results, json.dumps([end, message[:1000], seconds, peak / 1e6]).encode())
    # Not os._exit, so that what libraries write at exit is caught, too.
    sys.exit(0)


def run(name: str) -> Result:
    """Prepare one input in a child process."""
    with tempfile.TemporaryFile() as results, tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            _child(name, results.fileno(), stderr.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        waited = time.perf_counter() - start
        results.seek(0)
        stderr.seek(0)
        written = results.read()
        end, message, seconds, megabytes = json.loads(written) if written else ("none", "", waited, 0.0)
        if status == -signal.SIGXCPU:
            end = f"more than {SECONDS * _MAX_SLOWNESS} seconds"
        return Result(
            name=name,
            end=end,
            message=message,
            seconds=round(seconds, 2),
            megabytes=round(megabytes),
            stderr=stderr.read(2000).decode(errors="replace"),
            status=status,
        )


def main(names: Iterable[str]) -> None:
    """Run the inputs of these names, one after another."""
    # Pillow loads its plugins before the children are forked. Nothing is decoded yet: a decoder's threads would be
    # missing in a child.
    Image.init()
    # A child that ends need not look through all that was there before it: that is most of what it would do.
    gc.freeze()
    for name in names:
        sys.stdout.write(json.dumps(run(name)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main(sys.argv[1:] or map(str.strip, sys.stdin))
