"""Files made to hurt whoever opens them, each from a few lines, and what may become of each."""

# Each of these puts its files into INPUTS.
from tests.pictures.hostile import (  # noqa: F401
    avif_heic,
    gif_bmp_ico,
    jpeg_2000_files,
    jpeg_files,
    other_files,
    png_files,
    ppm_files,
    tiff_files,
    webp_files,
)
from tests.pictures.hostile.catalogue import INPUTS, LIMITS, Hostile

__all__ = ["INPUTS", "LIMITS", "Hostile"]
