"""How the tests are shared among processes: those that share a stack stay together, and the longest begin first."""

from collections.abc import Sequence
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
# Whose tests share a stack. Elsewhere those of a file stay together.
TOGETHER = ("reliability", "clients", "gallery/browser", "local/test_host")
# Whose tests share nothing that takes long to make. They come last, one by one, so that all processes end together.
APART = ("pictures",)
# What takes longest, much of it waiting, in which the other processes get on.
FIRST = (
    "reliability",
    "clients",
    "gallery/browser",
    "triggers/test_openapi",
    "local/test_stack",
    "test_end_to_end",
    "infra",
)


def processes(arguments: Sequence[str]) -> int:
    """Four, whether there are two cores or more, since many tests wait; 0, this one alone, if only files are named."""
    return 0 if all(Path(argument.partition("::")[0]).is_file() for argument in arguments) else 4


def turn(test: str) -> int:
    """When a test has its turn: those of a lower number go first."""
    return min([*(number for number, name in enumerate(FIRST) if _is_in(test, name)), len(FIRST) + _is_apart(test)])


class Sharing(LoadScopeScheduling):  # type: ignore[misc] # its package is not typed
    """Gives each process that has nothing left the next tests that belong together."""

    def _split_scope(self, nodeid: str) -> str:
        """What tests have in common that belong together."""
        if _is_apart(nodeid):
            return nodeid
        return next((name for name in TOGETHER if _is_in(nodeid, name)), nodeid.partition("::")[0])


def _is_in(test: str, name: str) -> bool:
    return test.removeprefix(f"{TESTS.name}/").startswith(name)


def _is_apart(test: str) -> bool:
    return any(_is_in(test, name) for name in APART)
