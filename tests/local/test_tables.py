"""Tables: a terminal cuts the middle of a long name and nothing else; a file or a pipe cuts nothing."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench import report
from bench.figures import Figure, Measurement
from local import tables
from local.tables import Name, shortened

LONG = "holiday in the mountains with everybody from the old school, " * 5 + "0001.png"


def printed(*rows: tuple[str, str], width: int | None = None) -> list[str]:
    """The lines of a table of sizes and names on a terminal of this width; without one, in a file."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=width is not None, width=width, highlight=False, color_system=None)
    if width is None:
        console.width = tables.standard_output().width
    table = tables.table(console, "Size", "Name")
    for size, name in rows:
        table.add_row(size, Name(name))
    tables.show(console, table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 132])
def test_a_terminal_shows_the_beginning_and_the_end_of_a_name_that_does_not_fit(width: int) -> None:
    lines = printed(("4000x3000, 3.1 MB", LONG), width=width)
    (row,) = [line.rstrip() for line in lines if "3.1 MB" in line]
    assert row.startswith(" 4000x3000, 3.1 MB   holiday")
    assert "…" in row
    assert row.endswith("0001.png")
    assert max(cell_len(line) for line in lines) <= width


def test_a_terminal_shows_a_name_that_fits_whole() -> None:
    assert any("red apple.png" in line for line in printed(("1 MB", "red apple.png"), ("1 MB", LONG), width=80))


def test_a_file_gets_every_name_whole_on_one_line_without_blanks_at_its_end() -> None:
    lines = printed(("1 MB", LONG), ("20 MB", "red apple.png"))
    assert lines == ["", "Size   Name", f"1 MB   {LONG}", "20 MB  red apple.png", ""]


@pytest.mark.parametrize("name", [LONG, "写真の名前はとても長いです.png", "Zoë's café #1.jpg"])
@pytest.mark.parametrize("width", range(3, 40))
def test_a_shortened_name_has_at_most_that_width(name: str, width: int) -> None:
    assert cell_len(shortened(name, width)) <= width


def test_results_in_a_pipe_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    source = "requests/s: 214/243, 209/242, 208/242; " * 6 + "FOUNDRY_CONCURRENCY=32"
    figure = Figure("proxy_cache_hit_stored_ms_function", "ms", "lower", 1_000_000, lambda: measurement)
    measurement = Measurement(123_456, 123_455, 123_457, source)

    report.show(tables.standard_output(), [(figure, measurement)])

    row = capsys.readouterr().out.splitlines()[2]
    cells = [figure.name, "123,456", "ms", "≤ 1,000,000", "123,455 - 123,457", "ok", source]
    assert [cell.strip() for cell in row.split("  ") if cell] == cells
