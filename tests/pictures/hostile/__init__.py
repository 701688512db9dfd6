"""Files made to hurt whoever opens them, each made by a few lines, with the ends that each may come to."""

# Each of these adds its files to INPUTS.
from tests.pictures.hostile import (  # noqa: F401
    avif_heic,
    gif_bmp_ico,
    jpeg_2000_files,
    jpeg_files,
    other_files,
    png_files,
    ppm_files,
    rare_formats,
    tiff_files,
    webp_files,
)
from tests.pictures.hostile.catalogue import INPUTS, LIMITS, Hostile

__all__ = ["INPUTS", "LIMITS", "Hostile"]
