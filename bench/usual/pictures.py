"""The code that a careful developer writes from the public samples: Pillow, base64 and json, with their defaults.

After Pillow's handbook (``Image.thumbnail``, ``ImageOps.exif_transpose``) and the curl and Python samples of "How to
generate image embeddings with Azure AI Foundry Models" (a PNG as a data URL in a JSON body).
"""

import base64
import io
import json
import math

import pi_heif
from PIL import Image, ImageOps

pi_heif.register_heif_opener()


def prepare(data: bytes, max_pixels: int) -> bytes:
    """Turn any picture into an upright RGB PNG of at most ``max_pixels`` pixels."""
    image = upright(data)
    pixels = image.width * image.height
    if pixels > max_pixels:
        scale = math.sqrt(max_pixels / pixels)
        image.thumbnail((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    return write_png(image)


def upright(data: bytes) -> Image.Image:
    """Decode the picture as RGB, turned as its EXIF data says."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
    return image if image.mode == "RGB" else image.convert("RGB")


def write_png(image: Image.Image) -> bytes:
    """Write a PNG with Pillow's defaults: zlib's level 6, a filter chosen for each row."""
    png = io.BytesIO()
    image.save(png, format="PNG")
    return png.getvalue()


def request_body(png: bytes, model: str) -> bytes:
    """Make the body of a request for one image's embedding."""
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return json.dumps({"model": model, "input_type": "document", "input": [{"image": url}]}).encode()
