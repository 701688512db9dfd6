"""The examples of the README and of docs, and the folder and environment in which they are run."""

import os
import random
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from local.azurite import REPO_ROOT
from local.stack import Stack

PAGES = [REPO_ROOT / "README.md", REPO_ROOT / "CONTRIBUTING.md", *sorted((REPO_ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^( *)```(bash|python|javascript)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A block of code: on which page it stands, in which language, and how many of that page and language precede it.

    Where its first line is a comment of one word, that is its `package`.
    """

    page: str
    language: str
    number: int
    code: str

    @property
    def package(self) -> str:
        found = re.match(r"(?:#|//) (\S+)\n", self.code)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}-{self.language}-{self.package or self.number}"


def examples(language: str, page: str | None = None) -> list[Example]:
    """All examples in a language, of all pages or of one."""
    found = []
    for path in PAGES:
        blocks = [block for block in _BLOCK.findall(path.read_text()) if block[1] == language]
        found += [Example(path.name, language, number, block[2]) for number, block in enumerate(blocks)]
    return [example for example in found if page in (None, example.page)]


def photograph(folder: Path) -> Path:
    """A JPEG of several MB, as cameras make them: no examples work by being given a small file."""
    file = folder / "bike.jpg"
    noise = Image.frombytes("RGB", (750, 500), random.Random(1).randbytes(750 * 500 * 3))
    noise.resize((3000, 2000), Image.Resampling.BILINEAR).save(file, "JPEG", quality=96)
    assert 3_000_000 < file.stat().st_size < 8_000_000
    return file


def environment(app: Stack, folder: Path) -> dict[str, str]:
    """What the examples expect of theirs, and nothing of this machine's but the path."""
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return {
        "APP": app.functions_url,
        "KEY": app.functions_key,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "CURL_HOME": str(folder),
        "NO_PROXY": "*",
    }
