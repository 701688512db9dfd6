"""How much memory a process needs to prepare many large pictures at once."""

import math
import resource
import subprocess
import sys
import threading
from pathlib import Path

from bench.app import LIMITS
from bench.figures import Measurement
from bench.machine import memory_mib
from shared.pictures.prepare import prepare

_THREADS = 16


def peak_of_child(picture: Path, repetitions: int) -> Measurement:
    """The peak resident memory, in MiB, of a fresh process that prepares a picture on 16 threads at once.

    It includes the interpreter and libraries, each thread's own copy of the file, and all 16 results: an upload keeps
    its PNG while it calls the model.
    """
    command = [sys.executable, "-m", "bench.memory", str(picture)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repetitions)]
    return Measurement.median([float(run.stdout) for run in runs], f"{_THREADS} threads, {repetitions} processes")


def _prepare_at_once(picture: Path) -> None:
    start = threading.Barrier(_THREADS)
    done = []

    def work() -> None:
        data = picture.read_bytes()
        start.wait()
        done.append(prepare(data, LIMITS))

    threads = [threading.Thread(target=work) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(done) != _THREADS:
        raise SystemExit(f"Only {len(done)} of {_THREADS} pictures were prepared; the errors are above.")


def _peak_mib() -> float:
    """The peak resident memory of this process so far, in MiB."""
    if not math.isnan(peak := memory_mib("VmHWM")):
        return peak
    # Bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    _prepare_at_once(Path(sys.argv[1]))
    sys.stdout.write(f"{_peak_mib()}\n")
