"""Child processes that say when they are ready, are read to the end, and never outlive their parent."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# What a service of this stack prints when it is ready.
LISTENING = re.compile(r"^listening on (http://127\.0\.0\.1:\d+)$")

# How often a server looks whether it is to stop, in seconds.
STOPPING = {"poll_interval": 0.05}

# Seconds that a part may take to start on a busy machine. One that cannot start ends before that.
STARTING = 120.0

# On Linux the kernel kills the child when its parent ends, however that came about. The setting survives exec.
_DIE_WITH_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent process has already ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class StackError(Exception):
    """A part of the local stack did not start, or stopped unexpectedly. The message names its log and shows its end."""


class Child:
    """One child process. Everything it prints goes to `log` and, line by line, to `on_line`.

    It is in a session of its own, so that a Ctrl-C in the terminal reaches only the parent, which then stops its
    children in order. Start it from a thread that lives as long as the child should.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = name
        self.log = log
        self._on_line = on_line
        self._first_lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"{name} output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def announcement(self, pattern: re.Pattern[str], *, seconds: float) -> str:
        """Wait for one of its first lines to match and return the pattern's first group.

        Raises StackError when it ends, or `seconds` pass, before that.
        """

        def found() -> str | None:
            return next((match[1] for line in self._first_lines if (match := pattern.search(line))), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout=seconds)
            announced = found()
        if announced is None:
            raise self.error("did not start" if self._ended else f"was not ready within {seconds:g} seconds")
        return announced

    def error(self, what: str) -> StackError:
        """An error about this child that names its log and shows the log's end."""
        tail = "\n".join(f"    {line}" for line in self._tail())
        return StackError(f"{self.name} {what}. Its log is {self.log} and ends with:\n{tail}")

    def stop(self, *, seconds: float = 5) -> None:
        """Terminate it; kill it when it has not ended within `seconds`. Does nothing when it has already ended."""
        self._process.terminate()
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=seconds)

    def wait(self) -> int:
        """Wait until it ends and return its exit status."""
        status = self._process.wait()
        self._reader.join(timeout=1)
        return status

    def _read(self) -> None:
        """Read until the end: a full pipe would block the child."""
        assert self._process.stdout
        with self._process.stdout as output, self.log.open("ab", buffering=0) as log:
            for raw in output:
                log.write(raw)
                line = raw.decode("utf-8", "replace").rstrip("\n")
                if len(self._first_lines) < 50:
                    with self._changed:
                        self._first_lines.append(line)
                        self._changed.notify_all()
                self._on_line(line)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _tail(self, lines: int = 20) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        return []


class Restarted:
    """A process that listens, restarted on the same port whenever it ends before its time."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
        cwd: Path,
        show: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._name = name
        self._command = command
        self._environment = environment
        self._log = log
        self._cwd = cwd
        self._show = show
        self._stopping = threading.Event()
        self._child: Child | None = None
        self._restarter: threading.Thread | None = None
        self.url = ""

    def start(self, answers: Callable[[str], bool]) -> None:
        """Start it and wait until it answers at its URL. Raises StackError when it does not."""
        self._child = child = self._process(port=0)
        self.url = child.announcement(LISTENING, seconds=STARTING)
        if not wait_until(lambda: answers(self.url), seconds=STARTING):
            raise child.error("does not answer")
        self._restarter = threading.Thread(target=self._restart, args=[child], name=f"{self._name} watch", daemon=True)
        self._restarter.start()

    def stop(self) -> None:
        """Stop it for good."""
        self._stopping.set()
        if self._child:
            self._child.stop()
        if self._restarter:
            self._restarter.join()

    def _restart(self, child: Child) -> None:
        port = int(self.url.rpartition(":")[2])
        while True:
            child.wait()
            if self._stopping.is_set():
                return
            print(f"{child.error('stopped unexpectedly')}\nRestarting it.", file=sys.stderr, flush=True)
            self._child = child = self._process(port=port)
            if self._stopping.wait(1):  # not faster than that, should it fail again and again
                child.stop()
                return

    def _process(self, port: int) -> Child:
        return Child(
            self._name,
            [*self._command, "--port", str(port)],
            log=self._log,
            cwd=self._cwd,
            environment=self._environment,
            on_line=self._show,
        )


def listener(port: int) -> socket.socket:
    """A listening socket on a loopback port, 0 for any free one. What it serves is announced by :func:`announce`."""
    # Naming the protocol makes asyncio set TCP_NODELAY; without it small answers take 40 ms.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen(2048)
    return made


def announce(listening: socket.socket) -> None:
    """Print the line that :data:`LISTENING` matches: this process is ready."""
    print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)


def wait_until(true: Callable[[], bool], *, seconds: float, every: float = 0.05) -> bool:
    """Check every so often whether something is true. False when it has not become true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
