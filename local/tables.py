"""Tables on standard output: they fit a terminal, and in a file or a pipe nothing of them is cut or wrapped."""

from rich import box
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

# Columns where there is no terminal: more than any line has.
_UNLIMITED = 100_000
# Of a name that does not fit, at least so much is shown.
_SHORTEST_NAME = 16


class Name:
    """A name in a table. Where it does not fit it loses its middle: its beginning and its end tell it from others."""

    def __init__(self, name: str, before: str = "", style: str = "") -> None:
        self._name = name
        self._before = before
        self._style = style

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        before, name = cell_len(self._before), cell_len(self._name)
        return Measurement(before + min(name, _SHORTEST_NAME), before + name).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - cell_len(self._before)
        yield Text(self._before + shortened(self._name, room), style=self._style, no_wrap=True)


def shortened(name: str, width: int) -> str:
    """The name in at most so many columns, with an ellipsis in its middle where it is longer."""
    if cell_len(name) <= width:
        return name
    end = (width - 1) // 2
    beginning = chop_cells(name, max(1, width - 1 - end))[0]
    ending = chop_cells(name[::-1], max(1, end))[0][::-1]
    return f"{beginning}…{ending}"


def standard_output() -> Console:
    """A console that is as wide as the terminal, or as wide as its longest line where there is none."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    return console


def table(console: Console, *headings: str) -> Table:
    """An empty table. Where a terminal is too narrow for it, the last column gives way and the others stay whole."""
    made = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, no_wrap=heading != headings[-1])
    return made


def show(console: Console, table: Table) -> None:
    """Print a table between two empty lines; in a file or a pipe, without blanks at the ends of its lines."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    for line in ["", *printed.get().splitlines(), ""]:
        console.print(Text(line.rstrip()), soft_wrap=True)
