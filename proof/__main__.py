"""Try to lose images, and count those that were. The exit status is 1 when a figure misses its target."""

import sys

from bench import command
from local.azurite import REPO_ROOT
from proof import reliability

if __name__ == "__main__":
    sys.exit(command.run("proof", reliability.FIGURES, REPO_ROOT / ".local" / "proof.json"))
