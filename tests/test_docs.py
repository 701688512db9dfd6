"""The documentation leads somewhere: its links, and the files that it names, are there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHARED = ROOT / "shared"
FOLDERS = "bench|docs|infra|local|proof|shared|tests"


def words(page: Path) -> str:
    """The page without its examples."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link can name on a page: its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", words(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", words(page)):
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        if not link.startswith("https://") and not (
            target.exists() and (not anchor or (target.suffix == ".md" and anchor in anchors(target)))
        ):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", words(page))
    # The design page names modules by their folders in shared/.
    subjects = "|".join(path.name for path in SHARED.iterdir() if path.is_dir())
    modules = re.findall(rf"`((?:{subjects})/\w+\.py)`", words(page))
    found = [path for path in (*named, *modules) if not any((folder / path).exists() for folder in (ROOT, SHARED))]
    assert found == []


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 250
