"""Pictures for tests, and how a query carries them."""

import base64
import io

from PIL import Image


def picture(colour: str = "red", size: tuple[int, int] = (80, 60), format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, format)
    return file.getvalue()


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
