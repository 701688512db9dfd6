"""Try to lose images, and count the lost ones. The exit status is 1 when a figure misses its target."""

import sys

from bench import command
from local.azurite import REPO_ROOT
from proof import reliability

if __name__ == "__main__":
    purpose = "Try to lose images under quotas, faults, kills, races and wrong settings, and count the lost ones."
    sys.exit(command.run("proof", purpose, reliability.FIGURES, REPO_ROOT / ".local" / "proof.json"))
