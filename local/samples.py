"""Sample pictures for the demo, drawn here: the formats, sizes and oddities that people really upload.

Every picture is the same on every machine. One file is not a picture, to show what happens to such a file.
"""

import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw

type Point = tuple[float, float]

NO_PICTURE = "notes.jpg"


@dataclass(frozen=True)
class Sample:
    """A file: its name in the folder, and the text that goes with it as blob metadata."""

    name: str
    text: str | None = None


def write(folder: Path) -> list[Sample]:
    """Write the samples that a folder lacks. Returns all of them."""
    for name, draw in _FILES.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.{os.getpid()}")
            draw(unfinished)
            unfinished.replace(path)
    return [Sample(name, _TEXTS.get(name)) for name in _FILES]


def _sunset(path: Path) -> None:
    """A phone's photo: 12 megapixels with noise, stored on its side, with an EXIF entry that says so."""
    picture = _sky(750, 1000, ["#2b1b4d", "#a8325e", "#f2702f", "#ffc65c"])
    pen = ImageDraw.Draw(picture)
    glow = np.asarray(_sky(1, 16, ["#f58a3c", "#ffe9a8"]))[:, 0].tolist()
    for ring, colour in enumerate(glow):
        pen.ellipse(_circle(375, 610, 200 - 6 * ring), fill=tuple(colour))
    pen.ellipse(_circle(375, 610, 105), fill="#fff3c9")
    sea = _sky(750, 370, ["#f08a45", "#a23a57", "#241640"])
    picture.paste(sea, (0, 630))
    for line, y in enumerate(range(640, 990, 14)):
        half = 150 - line * 4 + 30 * math.sin(line * 2.4)
        pen.rounded_rectangle((375 - half, y, 375 + half, y + 5), 3, fill="#ffd58a")
    pen.polygon([(120, 632), (250, 632), (230, 655), (140, 655)], fill="#1d1230")
    pen.polygon([(182, 628), (182, 520), (240, 622)], fill="#1d1230")
    large = np.asarray(picture.resize((3000, 4000), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = np.random.default_rng(1).integers(-7, 8, (500, 500, 3), dtype=np.int16)
    noisy = np.clip(large + np.tile(grain, (8, 6, 1)), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Sample"
    exif[ExifTags.Base.Orientation] = 6
    lying = Image.fromarray(noisy).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, "JPEG", quality=88, exif=exif)


def _apple(path: Path) -> None:
    """Transparent around the apple."""
    picture = Image.new("RGBA", (1400, 1400))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((230, 420, 790, 1230), fill="#c4161c")
    pen.ellipse((610, 420, 1170, 1230), fill="#c4161c")
    pen.ellipse((330, 520, 1070, 1280), fill="#c4161c")
    pen.ellipse((270, 450, 700, 1080), fill="#d92b2b")
    pen.ellipse((350, 540, 470, 760), fill="#f5a3a0")
    pen.ellipse((590, 425, 810, 525), fill="#8e0d14")
    pen.line([(700, 450), (690, 330), (740, 190)], fill="#5b3617", width=40, joint="curve")
    pen.polygon(_leaf(760, 330, 320, 150, -25), fill="#3f9b3a")
    picture.resize((700, 700), Image.Resampling.LANCZOS).save(path, "PNG")


def _meadow(path: Path) -> None:
    """Green hills with flowers."""
    picture = _sky(1600, 1067, ["#7cc4f0", "#d9f0fb"])
    pen = ImageDraw.Draw(picture)
    for x, y in [(280, 160), (360, 130), (440, 165), (1150, 230), (1240, 200), (1330, 235)]:
        pen.ellipse((x - 90, y - 45, x + 90, y + 45), fill="white")
    pen.polygon(_hills(1600, 1067, 430, 70, 900), fill="#5aa84a")
    pen.polygon(_hills(1600, 1067, 560, 60, 700), fill="#3f9440")
    pen.polygon(_hills(1600, 1067, 720, 40, 1100), fill="#2f8136")
    chance = random.Random(3)
    for _ in range(160):
        height = chance.uniform(760, 1050)
        flower = _circle(chance.uniform(0, 1600), height, (height - 640) / 45)
        pen.ellipse(flower, fill=chance.choice(["#fff6d0", "#ffd84a", "#f6b3c8"]))
    picture.save(path, "WEBP", quality=85)


def _ball(path: Path) -> None:
    """Animated: an orange ball bounces on a turquoise floor."""
    frames = []
    for step in range(8):
        frame = _sky(480, 320, ["#d7f5f3", "#f4fffd"])
        pen = ImageDraw.Draw(frame)
        pen.rectangle((0, 230, 480, 320), fill="#3cc3c3")
        height = 200 - abs(math.sin(step / 8 * math.pi)) * 110
        pen.ellipse((190, 248, 290, 268), fill="#2a9a9a")
        pen.ellipse(_circle(240, height, 55), fill="#f58c1e")
        pen.ellipse(_circle(220, height - 20, 13), fill="#ffd9a6")
        frames.append(frame.quantize(64))
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=80, loop=0)


def _mountains(path: Path) -> None:
    """A scan: grey, 16 bits deep, LZW."""
    height, width = 900, 1400
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    grey = np.broadcast_to(62000 - rows * 8.0, (height, width)).copy()
    for layer, shade in enumerate([46000, 36000, 25000, 14000]):
        ridge = 240 + layer * 150 - 90 * np.abs(np.sin(columns / (170 + 40 * layer) + layer * 1.7))
        ridge -= 25 * np.sin(columns / 47 + layer)
        grey = np.where(rows > ridge, shade + np.minimum((rows - ridge) * 45, 14000), grey)
    Image.fromarray(grey.astype(np.uint16)).save(path, "TIFF", compression="tiff_lzw")


def _lake(path: Path) -> None:
    """A lake under mountains, not compressed at all."""
    picture = _sky(1024, 683, ["#4f9be0", "#bfe0f7"])
    pen = ImageDraw.Draw(picture)
    for x, peak, half in [(200, 120, 330), (760, 90, 380), (480, 190, 300)]:
        pen.polygon([(x - half, 400), (x, peak), (x + half, 400)], fill="#53729c")
        pen.polygon([(x - half / 4, peak + 70), (x, peak), (x + half / 4, peak + 70), (x, peak + 50)], fill="white")
    picture.paste(_sky(1024, 293, ["#3f78c4", "#143c86"]), (0, 390))
    for line in range(14):
        x, y = line * 283 % 900, 410 + line * 19
        pen.line([(x, y), (x + 60 + line * 7, y)], fill="#7fb0e6", width=3)
    picture.save(path, "BMP")


def _lemons(path: Path) -> None:
    """Three lemons in a modern format."""
    picture = _sky(1280, 853, ["#f7f4ea", "#e6e0cd"])
    pen = ImageDraw.Draw(picture)
    pen.ellipse((120, 590, 1080, 710), fill="#d8d0b8")
    for x, y in [(600, 330), (370, 500), (830, 490)]:
        pen.ellipse((x - 255, y - 35, x - 165, y + 35), fill="#f0c419")
        pen.ellipse((x + 165, y - 35, x + 255, y + 35), fill="#f0c419")
        pen.ellipse((x - 215, y - 155, x + 215, y + 155), fill="#fbdc33")
        pen.ellipse((x - 120, y - 105, x + 10, y - 45), fill="#fff0a0")
    pen.polygon(_leaf(640, 190, 260, 110, 10), fill="#3d8f3a")
    picture.save(path, "AVIF", quality=70)


def _leaves(path: Path) -> None:
    """Made for print: CMYK."""
    picture = _sky(1200, 1200, ["#6e4424", "#4a2c16"])
    pen = ImageDraw.Draw(picture)
    chance = random.Random(5)
    for _ in range(90):
        x, y, turn = chance.uniform(0, 1200), chance.uniform(0, 1200), chance.uniform(0, 360)
        leaf = _leaf(x, y, chance.uniform(150, 260), chance.uniform(60, 110), turn)
        pen.polygon(leaf, fill=chance.choice(["#8a4b1e", "#b5651d", "#6f3d18", "#c9742b", "#95562a"]))
        pen.line([leaf[0], leaf[len(leaf) // 2]], fill="#4a2c16", width=4)
    picture.convert("CMYK").save(path, "JPEG", quality=90)


def _city(path: Path) -> None:
    """A palette of 32 colours."""
    picture = _sky(640, 960, ["#05060f", "#0c1030", "#1b1f4d"])
    pen = ImageDraw.Draw(picture)
    chance = random.Random(8)
    for _ in range(90):
        pen.ellipse(_circle(chance.uniform(0, 640), chance.uniform(0, 460), chance.choice([1, 1, 2])), fill="white")
    pen.ellipse(_circle(500, 150, 60), fill="#f3efd0")
    pen.ellipse(_circle(475, 135, 55), fill="#060713")
    for left in range(-20, 640, 82):
        top = chance.randrange(430, 720, 30)
        pen.rectangle((left, top, left + 74, 960), fill="#0a0b14")
        for y in range(top + 18, 940, 30):
            for x in range(left + 10, left + 64, 20):
                if chance.random() < 0.35:
                    pen.rectangle((x, y, x + 10, y + 14), fill="#ffd866")
    picture.quantize(32).save(path, "PNG")


def _coffee(path: Path) -> None:
    """A progressive JPEG whose name is a trap for URLs."""
    picture = _sky(1800, 1350, ["#efe2cf", "#dcc6a6"])
    pen = ImageDraw.Draw(picture)
    pen.ellipse((330, 240, 1330, 1240), fill="#c9ad88")
    pen.ellipse((310, 210, 1310, 1210), fill="#fbf7f0")
    pen.rounded_rectangle((1080, 630, 1480, 790), 75, fill="#fbf7f0")
    pen.rounded_rectangle((1130, 670, 1430, 750), 38, fill="#dcc9ac")
    pen.ellipse((420, 320, 1200, 1100), fill="#fffdf9")
    pen.ellipse((460, 360, 1160, 1060), fill="#6b3f1d")
    pen.ellipse((500, 400, 1120, 1020), fill="#8a5527")
    pen.polygon(_heart(810, 690, 15), fill="#f0dcbd")
    picture.resize((1200, 900), Image.Resampling.LANCZOS).save(path, "JPEG", quality=88, progressive=True)


def _icon(path: Path) -> None:
    """A pink heart of 16 x 16 pixels: smaller than the model likes."""
    picture = Image.new("RGBA", (256, 256))
    ImageDraw.Draw(picture).polygon(_heart(128, 116, 7.4), fill="#f08db4", outline="#c2487c", width=14)
    picture.resize((16, 16), Image.Resampling.LANCZOS).save(path, "ICO", sizes=[(16, 16)])


def _notes(path: Path) -> None:
    """A text, despite its name."""
    path.write_text("Bought 6 lemons. The picture of the lake came out well.\n")


def _sky(width: int, height: int, colours: Sequence[str]) -> Image.Image:
    """A vertical gradient, from the first colour at the top to the last at the bottom."""
    column = Image.new("RGB", (1, len(colours)))
    for y, colour in enumerate(colours):
        column.paste(colour, (0, y, 1, y + 1))
    return column.resize((width, height), Image.Resampling.BILINEAR)


def _circle(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _hills(width: int, height: int, top: float, swing: float, length: float) -> list[Point]:
    edge = [(float(x), top + swing * math.sin(x / length * 2 * math.pi + top)) for x in range(0, width + 10, 10)]
    return [(0, height), *edge, (width, height)]


def _leaf(x: float, y: float, length: float, width: float, degrees: float) -> list[Point]:
    """A leaf from its stalk at (x, y)."""
    turn = math.radians(degrees)
    along = [step / 20 for step in range(21)]
    side = [(share * length, math.sin(share * math.pi) * width / 2) for share in along]
    outline = side + [(a, -b) for a, b in reversed(side)]
    return [
        (x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn)) for a, b in outline
    ]


def _heart(x: float, y: float, size: float) -> list[Point]:
    outline = []
    for step in range(120):
        t = step / 120 * 2 * math.pi
        across = 16 * math.sin(t) ** 3
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        outline.append((x + size * across, y - size * up))
    return outline


_FILES: dict[str, Callable[[Path], None]] = {
    "sunset over the sea.jpg": _sunset,
    "red apple.png": _apple,
    "green meadow.webp": _meadow,
    "bouncing ball.gif": _ball,
    "misty mountains.tiff": _mountains,
    "blue lake.bmp": _lake,
    "three lemons.avif": _lemons,
    "autumn leaves (print).jpg": _leaves,
    "city at night.png": _city,
    "Zoë's café/Zoë's café #1.jpg": _coffee,
    "pink heart.ico": _icon,
    NO_PICTURE: _notes,
}
_TEXTS = {
    "Zoë's café/Zoë's café #1.jpg": "A cappuccino at Zoë's café",
    "red apple.png": "A ripe red apple",
}
