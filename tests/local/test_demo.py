"""`make demo` with a folder of one's own: what it prints where no terminal limits it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from local.azurite import REPO_ROOT
from tests.conftest import PATIENCE

LONG = "holiday in the mountains with everybody from the old school " * 3
DEEP = "/".join([f"{LONG}, folder {number}" for number in range(3)])
PICTURES = [f"{LONG} 1.png", f"{LONG} 2.png", f"{DEEP}/3.jpg", "[red]4.gif", "写真の名前はとても長いです.webp"]
DAMAGED = f"{LONG} damaged.png"


def write(folder: Path) -> None:
    for number, name in enumerate(PICTURES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (40 * number, 90, 150)).save(path)
    (folder / DAMAGED).write_bytes((folder / PICTURES[0]).read_bytes()[:60])
    for number in range(8):
        (folder / f"{LONG} {number}.TXT").write_text("not a picture")
    for number in range(3):
        (folder / f"{number}.pdf").write_bytes(b"%PDF-1.7\n")
    (folder / "LICENSE").write_text("not a picture")


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "local", "demo", *options, str(folder)]
    return subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, file = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("stack") / "stack.json"
    write(folder)
    command = [sys.executable, "-m", "local", "demo", "--keep", "--file", str(file), str(folder)]
    with subprocess.Popen(command, cwd=REPO_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = list(iter(process.stdout.readline, "Press Ctrl-C to stop.\n"))
        kept = json.loads(file.read_text())
        page = httpx.get(f"{kept['functions_url']}/api/gallery", timeout=PATIENCE).raise_for_status()
        assert "Gallery" in page.text
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors, file.exists()) == (0, "", False)
    return [line.rstrip("\n") for line in output]


def test_it_stays_up_if_it_is_asked_to_and_says_where_its_pictures_can_be_seen(lines: list[str]) -> None:
    assert any("/api/gallery#key=" in line for line in lines)


def test_every_picture_has_a_row_with_its_whole_name(lines: list[str]) -> None:
    for name in PICTURES:
        (row,) = [line for line in lines if line.endswith(f"  {name}") and "embedded" in line]
        assert row.startswith("64x48, ")


def test_a_damaged_picture_has_a_row_and_a_reason(lines: list[str]) -> None:
    assert any("damaged_image" in line and line.endswith(DAMAGED) for line in lines)
    assert any(line.startswith(f"{DAMAGED}: ") for line in lines)


def test_many_files_that_are_not_pictures_are_counted_by_kind(lines: list[str]) -> None:
    start = lines.index("12 files are not pictures; each has a failure record:")
    counts = {"  not_an_image: 8 .txt, 1 without an extension", "  unsupported_format: 3 .pdf"}
    assert set(lines[start + 1 : start + 3]) == counts
    assert not any("TXT" in line or "1.pdf" in line for line in lines)


def test_the_nearest_images_have_their_whole_names(lines: list[str]) -> None:
    assert any(line.endswith(f"1.000  {min(PICTURES)}") for line in lines)


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    done = demo(tmp_path)
    expected = f"The demo did not work. There are no files in {tmp_path}. Name a folder of pictures.\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_a_file_whose_name_no_blob_can_have_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    done = demo(tmp_path)
    assert done.returncode == 1
    assert "'\\udcff.png' cannot be a blob's name" in done.stderr
    assert done.stderr.endswith("Rename the file.\n")


def test_the_demo_works_with_a_model_that_answers_in_cohere_s_format_alone(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "blue.png")
    done = demo(tmp_path, "--model", "Cohere-Embed-V5-Pro", "--query-model", "Cohere-Embed-V5-Fast")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 embedded by Cohere-Embed-V5-Pro" in done.stdout


def test_a_model_that_the_stand_in_does_not_serve_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    done = demo(tmp_path, "--model", "another")
    assert done.returncode == 1
    assert "no model another" in done.stderr
