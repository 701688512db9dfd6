"""Imports run one way: each folder of ``shared`` knows only those below it, and nothing of ``local``."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parent.parent / "shared"
MODULES = [SHARED.parent / "function_app.py", *SHARED.rglob("*.py")]
# The modules at the top of ``shared`` that every folder may use, in the order in which they may use each other.
BASICS = ["clock", "errors", "races", "log", "known_models", "settings", "identity", "parsing"]
# What each folder may import as well.
MAY_IMPORT = {
    "storage": set(),
    "pictures": set(),
    "model": set(),
    "search": {"storage"},
    "uploads": {"storage", "pictures", "model", "search"},
    "audit": {"storage", "pictures", "search", "uploads"},
    "exports": {"storage", "uploads"},
    "queries": {"storage", "pictures", "model", "search"},
    "gallery": {"storage", "pictures", "search", "uploads", "queries"},
    "operations": {"storage", "model", "search", "uploads", "audit", "exports"},
    "triggers": {"storage", "model", "search", "uploads", "audit", "exports", "queries", "gallery", "operations"},
}
FOLDERS = sorted(path.name for path in SHARED.iterdir() if (path / "__init__.py").exists())


def imported(source: Path) -> Iterator[tuple[str, str]]:
    """The package and the next part of everything that a module imports, inside its functions too."""
    for node in ast.walk(ast.parse(source.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            yield package, rest.partition(".")[0]


def test_every_folder_has_its_row_in_the_table() -> None:
    assert sorted(MAY_IMPORT) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_is_below_it(folder: str) -> None:
    allowed = {folder, "__version__", "USER_AGENT", *BASICS, *MAY_IMPORT[folder]}
    for module in (SHARED / folder).rglob("*.py"):
        found = {part for package, part in imported(module) if package == "shared"}
        assert found <= allowed, f"{module.name} imports {sorted(found - allowed)}"


def test_uploads_import_nothing_of_search_but_what_tells_it_of_a_change() -> None:
    imports = "".join(module.read_text() for module in (SHARED / "uploads").glob("*.py"))
    assert set(re.findall(r"from shared\.search\.(\w+) import", imports)) == {"entries", "journal"}
    assert "import shared.search" not in imports


def test_no_two_folders_import_each_other_by_any_way_round() -> None:
    below: set[str] = set()
    for folder, imports in MAY_IMPORT.items():
        assert imports <= below, f"{folder} imports what stands after it in the table"
        below.add(folder)


@pytest.mark.parametrize("name", BASICS)
def test_a_module_at_the_top_imports_only_those_before_it(name: str) -> None:
    found = {part for package, part in imported(SHARED / f"{name}.py") if package == "shared"}
    assert found <= set(BASICS[: BASICS.index(name)])


def test_only_function_app_imports_the_application() -> None:
    importers = {
        path.relative_to(SHARED.parent).as_posix() for path in MODULES if ("shared", "application") in imported(path)
    }
    assert importers == {"function_app.py"}


def test_the_app_knows_nothing_of_the_local_stack_or_the_tests() -> None:
    for module in MODULES:
        assert not {package for package, _ in imported(module)} & {"local", "tests", "bench", "proof", "infra"}, module


def test_no_folder_is_crowded_and_each_says_in_one_sentence_what_lives_there() -> None:
    assert len(FOLDERS) <= 11
    for folder in FOLDERS:
        for place in [SHARED / folder, *(path.parent for path in (SHARED / folder).glob("*/__init__.py"))]:
            assert len(list(place.glob("[!_]*.py"))) <= 8, place
            [sentence] = ast.parse((place / "__init__.py").read_text()).body
            assert isinstance(sentence, ast.Expr), f"{place}/__init__.py re-exports something"


def test_the_design_page_has_every_module_in_its_tree_and_no_other() -> None:
    page = (SHARED.parent / "docs/design.md").read_text()
    tree = page[page.index("function_app.py ") : page.index("local/  ")]
    # A module's name that a single space follows is one that the words about another mention.
    named = Counter(re.findall(r"(\w+\.py)(?:,|  |\n)", tree))
    assert named == Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {folder for folder in FOLDERS if f"{folder}/" not in tree} == set()
