"""Every script passes its static checks, and the two shells of a hook give the same commands and say the same."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell
from tree_sitter import Node

from tests.infra.deployments import HOOK_NAMES, HOOKS, ROOT

SCRIPTS = [*sorted(path for path in ROOT.rglob("*.sh") if ".venv" not in path.parts), ROOT / ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_shell_script_passes_shellcheck(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    ran = subprocess.run([str(shellcheck), str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_the_powershell_hook_parses(hook: str) -> None:
    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    root = parser.parse((HOOKS / f"{hook}.ps1").read_bytes()).root_node
    assert [node.start_point for node in walk(root) if node.type == "ERROR" or node.is_missing] == []


@pytest.mark.parametrize(("hook", "calls"), [("preprovision", 8), ("postdeploy", 5)])
def test_both_shells_give_az_the_same_commands(hook: str, calls: int) -> None:
    def commands(source: str, joined: str) -> list[set[str]]:
        """The words of each call of az, names of variables in one spelling."""
        source = source.replace(joined, " ").replace('"', "")
        source = re.sub(r"\$env:(\w+)|\$\{?(\w+)\}?", lambda found: f"<{found[1] or found[2]}>", source)
        found = re.findall(
            r"^(?!#).*?\baz ((?:account|provider|rest|deployment|resource|cognitiveservices) [^\n]*)", source, re.M
        )
        # What a person is told to run has no --output.
        found = [call for call in found if "--output" in call]
        return [{word.strip("'()") for word in re.split(r"\s+", call)} - {""} for call in found]

    in_sh = commands((HOOKS / f"{hook}.sh").read_text(), "\\\n")
    in_ps1 = commands((HOOKS / f"{hook}.ps1").read_text(), "`\n")
    assert len(in_sh) == len(in_ps1) == calls
    for ours, theirs in zip(sorted(in_sh, key=sorted), sorted(in_ps1, key=sorted), strict=True):
        assert {word for word in ours if word.startswith("--")} == {word for word in theirs if word.startswith("--")}
        assert {word for word in ours if "api-version" in word} == {word for word in theirs if "api-version" in word}
        assert {word for word in ours if "=" in word and "<" in word} == {
            word for word in theirs if "=" in word and "<" in word
        }


@pytest.mark.parametrize("hook", HOOK_NAMES)
def test_both_shells_say_the_same(hook: str) -> None:
    def said(source: str) -> set[str]:
        """What a person may read, without what is filled in."""
        found = re.findall(r"""(?:echo|fail|Write-Host|Stop-Here)\s+["']([^"]{12,}?)["']\n""", source)
        return {re.sub(r"\$env:\w+|\$\{?\w+\}?", "…", text).replace("`n", "").strip() for text in found}

    in_sh, in_ps1 = (said((HOOKS / f"{hook}.{ending}").read_text()) for ending in ("sh", "ps1"))
    assert len(in_sh) >= 5
    # PowerShell needs no curl.
    assert {text for text in in_sh if "curl is needed" not in text} == in_ps1
