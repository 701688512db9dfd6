"""What README, CONTRIBUTING and the release say can be done works as written, on the machines that they name."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bench import pages
from bench.__main__ import FIGURES
from local.azurite import REPO_ROOT
from shared import USER_AGENT, __version__

PAGES = {path.name: path.read_text() for path in [*REPO_ROOT.glob("*.md"), *(REPO_ROOT / "docs").glob("*.md")]}
MAKEFILE = (REPO_ROOT / "Makefile").read_text()
DEMO = ("requirements.txt", "requirements-local.txt")


def would_do(*arguments: str) -> str:
    """The commands that make would run."""
    # The make that runs the tests hands its own arguments down, ARGS among them.
    clean = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES", "ARGS"}}
    make = ["make", "-n", *arguments]
    return subprocess.run(make, cwd=REPO_ROOT, env=clean, capture_output=True, text=True, check=True).stdout


# Commands


def test_every_make_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([\w./-]+):(?!=)", MAKEFILE, re.MULTILINE))
    named = {
        (page, target)
        for page, text in PAGES.items()
        for code in [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ {4}(make .*)$", text, re.MULTILINE)]
        for target in re.findall(r"^make ([a-z]+)", code)
    }
    assert len(named) > 20
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_only_all_tests_together_must_cover_the_code() -> None:
    assert "--cov-fail-under" in would_do("test")
    some = would_do("test", "ARGS=tests/uploads/test_sync.py -k race")
    assert "--no-cov tests/uploads/test_sync.py -k race" in some
    assert "--cov-fail-under" not in some


def test_the_files_that_contributing_names_exist() -> None:
    folders = r"shared|tests|infra|docs|local|proof|bench|\.github|\.devcontainer|\.ci"
    named = re.findall(rf"`((?:{folders})(?:/[\w.-]+)*/?)`", PAGES["CONTRIBUTING.md"])
    assert len(named) > 30
    assert [path for path in named if not (REPO_ROOT / path).exists()] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = []
    for page, text in PAGES.items():
        folder = REPO_ROOT if (REPO_ROOT / page).exists() else REPO_ROOT / "docs"
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = folder / path if path else folder / page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append((page, link))
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in words}


def test_cleaning_up_leaves_what_people_wrote(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    for name in ("local.settings.json", "notes.txt", "docs/page.md", ".env", ".azure/dev/.env", ".venv/x", ".local/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"Makefile", "local.settings.json", "notes.txt", "docs/page.md", ".env", ".azure/dev/.env"}


def test_the_figures_in_the_pages_are_those_that_bench_measures() -> None:
    named = {name for text in PAGES.values() for name, _, _ in pages.FIGURE.findall(text)}
    assert named
    assert named <= {figure.name for figure in FIGURES}
    results = {"a": {"value": 8.82, "unit": "x", "measured": "827.5 ms / 93.78 ms, 9 rounds"}}
    page = "<!--a ratio-->1<!--/--> <!--a ours-->2 ms<!--/--> <!--a value-->3<!--/--> <!--b value-->4 s<!--/-->"
    assert pages.filled(page, results) == (
        "<!--a ratio-->8.8<!--/--> <!--a ours-->94 ms<!--/--> <!--a value-->8.8 x<!--/--> <!--b value-->4 s<!--/-->"
    )


# Machines


def test_everything_names_the_same_python() -> None:
    version = (REPO_ROOT / ".python-version").read_text().strip()
    project = tomllib.loads((REPO_ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == f"=={version}.*"
    assert project["tool"]["ruff"]["target-version"] == f"py{version.replace('.', '')}"
    assert f"= {version} ]" in (REPO_ROOT / "local/setup.sh").read_text()
    assert f"/python:{version}-" in (REPO_ROOT / ".devcontainer/devcontainer.json").read_text()
    assert f"Python {version}" in PAGES["README.md"]
    assert f"Python {version}" in PAGES["CONTRIBUTING.md"]


def test_the_demo_installs_nothing_that_only_tests_or_fuzzing_need() -> None:
    setup = (REPO_ROOT / "local/setup.sh").read_text()
    assert set(re.findall(r"requirements\S*\.txt", setup)) == {"requirements.txt", "requirements-local.txt"}
    [needs] = re.findall(r"^demo: (.+)$", MAKEFILE, re.MULTILINE)
    assert needs == ".venv/ready"
    for lock in DEMO:
        assert pins(lock).keys() & {"atheris", "pytest", "mypy", "hypothesis", "playwright", "openai"} == set()


def test_what_the_app_and_the_local_stack_import_is_installed_for_the_demo() -> None:
    sources = [REPO_ROOT / "function_app.py", *(REPO_ROOT / "shared").rglob("*.py")]
    # These picture the gallery for the README, and test it.
    pictured = {"screenshot.py", "browser.py"}
    sources += [path for path in (REPO_ROOT / "local").rglob("*.py") if path.name not in pictured]
    imported = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    locked = {name.lower().replace("_", "-") for lock in DEMO for name in pins(lock)}
    distributions = packages_distributions()
    missing = {
        name
        for name in imported - sys.stdlib_module_names - {"shared", "local", "function_app"}
        if not {one.lower().replace("_", "-") for one in distributions[name]} & locked
    }
    assert missing == set()


def test_the_locks_agree_on_what_goes_into_the_same_environment() -> None:
    found: dict[str, set[str]] = {}
    for lock in (*DEMO, "requirements-dev.txt", "requirements-fuzz.txt"):
        for name, version in pins(lock).items():
            found.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in found.items() if len(versions) > 1} == {}


def pins(lock: str) -> dict[str, str]:
    """The version of each package in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (REPO_ROOT / lock).read_text(), re.MULTILINE))


GNU_ONLY = re.compile(
    r"sed -i (?!\.)|sed .*'\d+i |date -[dI]|date .*%N|readlink -f|grep -\w*P|base64 -w|\bmapfile\b|\breadarray\b"
    r"|declare -A|\$\{\w+,,|\btimeout \d|xargs -\w*r|stat -c|\brealpath\b|sort -V|head -n -"
)


@pytest.mark.parametrize(
    "text",
    [MAKEFILE, *(path.read_text() for path in REPO_ROOT.rglob("*.sh") if ".venv" not in path.parts), *PAGES.values()],
    ids=lambda text: text[:20],
)
def test_no_command_is_one_that_macos_does_not_have(text: str) -> None:
    assert GNU_ONLY.findall(text) == []


# Releases


def test_a_release_has_one_number() -> None:
    [newest, *_] = re.findall(r"^## (\S+)$", PAGES["CHANGELOG.md"], re.MULTILINE)
    assert newest == __version__
    assert f"image-embeddings/{__version__}" == USER_AGENT
    if os.environ.get("GITHUB_REF_TYPE") == "tag":
        assert os.environ["GITHUB_REF_NAME"] == f"v{__version__}"


def test_a_tag_of_this_commit_is_its_number() -> None:
    if not (REPO_ROOT / ".git").exists() or shutil.which("git") is None:
        return
    tags = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=REPO_ROOT, capture_output=True, text=True).stdout
    assert {tag for tag in tags.split() if tag.startswith("v")} <= {f"v{__version__}"}


def test_a_dependency_of_every_kind_is_kept_up_to_date() -> None:
    watched = (REPO_ROOT / ".github/dependabot.yml").read_text()
    for kind in ("pip", "npm", "github-actions", "devcontainers"):
        assert f"package-ecosystem: {kind}" in watched
    folders = {path.parent.relative_to(REPO_ROOT) for path in REPO_ROOT.rglob("package-lock.json")}
    of_ours = {folder.as_posix() for folder in folders if not {".venv", "node_modules"} & set(folder.parts)}
    assert set(re.findall(r"- /(\S+)$", watched, re.MULTILINE)) == of_ours
    audited = (REPO_ROOT / ".github/workflows/audit.yml").read_text()
    assert "requirements*.txt" in audited
    assert all(folder in audited for folder in of_ours)
