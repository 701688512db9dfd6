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

from tests.infra.deployments import HOOK_NAMES, HOOK_SCRIPTS, HOOKS, ROOT

# Parts of hooks are checked with the hooks that read them.
SCRIPTS = [
    *sorted(path for path in ROOT.rglob("*.sh") if ".venv" not in path.parts and "parts" not in path.parts),
    ROOT / ".ci/run",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_shell_script_passes_shellcheck(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    options = ["--external-sources", "--check-sourced", "--source-path=SCRIPTDIR"]
    ran = subprocess.run([str(shellcheck), *options, str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_every_part_of_a_hook_is_read_by_one_in_both_shells() -> None:
    assert {script for script in HOOK_SCRIPTS if "/" not in script} == set(HOOK_NAMES)
    for name in HOOK_NAMES:
        in_sh = re.findall(r'^\. "\$here/(parts/\w+)\.sh"', (HOOKS / f"{name}.sh").read_text(), re.M)
        in_ps1 = re.findall(r'^\. "\$PSScriptRoot/(parts/\w+)\.ps1"', (HOOKS / f"{name}.ps1").read_text(), re.M)
        assert in_sh == in_ps1
        assert set(in_sh) <= set(HOOK_SCRIPTS)


@pytest.mark.parametrize("script", HOOK_SCRIPTS)
def test_the_powershell_of_a_hook_parses(script: str) -> None:
    def walk(node: Node) -> Iterator[Node]:
        yield node
        for child in node.children:
            yield from walk(child)

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    root = parser.parse((HOOKS / f"{script}.ps1").read_bytes()).root_node
    assert [node.start_point for node in walk(root) if node.type == "ERROR" or node.is_missing] == []


def without_variables(source: str) -> str:
    """The same with each value that is filled in as … : ``$x``, ``${x##*/}``, ``$env:X``, ``$(Get-Name $x)``."""
    source = source.replace("\\$", "§").replace("`$", "§")
    return re.sub(r"\$\([^()]*(?:\([^()]*\))?[^()]*\)|\$\{[^}]*\}|\$env:\w+|\$\w+|\$\*", "…", source)


@pytest.mark.parametrize("script", HOOK_SCRIPTS)
def test_both_shells_give_az_the_same_commands(script: str) -> None:
    def commands(source: str, joined: str) -> list[list[str]]:
        """The options, queries and addresses of each call of az, but not of those that a person is told to run."""
        source = re.sub(r"\$\((?:subscription_of|group_of) [^)]*\)|\(Get-(?:Subscription|Group) [^)]*\)", "…", source)
        source = source.replace(joined, " ")
        calls = re.findall(r"(?<![\w-])[aA]sk ([a-z]+ [^\n]*)", source)
        calls += re.findall(r"^(?!#).*?\baz ((?:account|provider|rest|deployment) [^\n]*--output[^\n]*)", source, re.M)
        found = []
        for call in map(without_variables, calls):
            queries = [
                double or single for double, single in re.findall(r"""--query\s+(?:"([^"]*)"|'([^']*)')""", call)
            ]
            words = re.sub("[\"'()]", "", call).split()
            found.append(queries + sorted({word for word in words if re.match("--|\\w+=…$", word) or "?api" in word}))
        return sorted(found)

    in_sh = commands((HOOKS / f"{script}.sh").read_text(), "\\\n")
    in_ps1 = commands((HOOKS / f"{script}.ps1").read_text(), "`\n")
    assert in_sh == in_ps1
    assert in_sh or script == "preprovision"


@pytest.mark.parametrize("script", HOOK_SCRIPTS)
def test_both_shells_say_the_same(script: str) -> None:
    def said(source: str) -> set[str]:
        """What a person may read, without what is filled in."""
        speak = r"(?:echo|fail|refuse|Write-Host|Stop-Here|Deny-Deployment|WriteLine\()"
        found = re.findall(rf"""{speak}\s*(?:"([^"\n]{{12,}})"|'([^'\n]{{12,}})')""", source)
        return {without_variables(double or single).strip() for double, single in found if " " in double + single}

    in_sh, in_ps1 = (said((HOOKS / f"{script}.{ending}").read_text()) for ending in ("sh", "ps1"))
    # PowerShell needs no curl.
    assert {text for text in in_sh if "curl is needed" not in text} == in_ps1
