"""A chart of where time goes: a bar for each way of doing the same, divided into steps."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

_COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb")
_LEFT, _WIDTH, _ROW, _BAR = 130, 760, 54, 30
# In pixels: a narrower piece has no room for its number.
_NARROW = 26


def bars(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """An SVG of the rows, each a name and its steps with their milliseconds, all on one scale.

    Colour-blind people can tell the colours apart (Paul Tol, "Bright").
    """
    steps = list(dict.fromkeys(step for row in rows.values() for step in row))
    colours = dict(zip(steps, _COLOURS, strict=False))
    scale = _WIDTH / max(sum(row.values()) for row in rows.values())
    height = 40 + _ROW * len(rows) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 70}" height="{height}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="24" font-size="15">{escape(title)}</text>',
    ]
    for index, (name, row) in enumerate(rows.items()):
        top = 44 + _ROW * index
        parts.append(f'<text x="10" y="{top + 20}">{escape(name)}</text>')
        left = float(_LEFT)
        for step, ms in row.items():
            width = ms * scale
            parts.append(
                f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colours[step]}">'
                f"<title>{escape(step)}: {ms:.0f} ms</title></rect>"
            )
            if width >= _NARROW:
                middle = left + width / 2
                parts.append(f'<text x="{middle:.1f}" y="{top + 20}" text-anchor="middle">{ms:.0f}</text>')
            left += width
        parts.append(f'<text x="{left + 8:.1f}" y="{top + 20}">{sum(row.values()):.0f} ms</text>')
    left = float(_LEFT)
    for step in steps:
        parts.append(f'<rect x="{left:.0f}" y="{height - 24}" width="12" height="12" fill="{colours[step]}"/>')
        parts.append(f'<text x="{left + 17:.0f}" y="{height - 13}">{escape(step)}</text>')
        left += 40 + 7.5 * len(step)
    return "\n".join([*parts, "</svg>", ""])
