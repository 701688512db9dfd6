"""Files made to hurt whoever opens them, each made by a few lines, with the ends that each may come to."""

import re
from dataclasses import replace

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
from tests.pictures.hostile.catalogue import INPUTS, LIMITS, LIMITS_AS_IT_IS, Hostile

# What a model takes as it is goes another way there. Millions of segments are refused before the ways part; what has
# inks or several frames is never kept.
for _name in [*INPUTS]:
    _is_taken = _name.startswith(("jpeg_", "webp_")) and not _name.startswith(("jpeg_2000", "jpeg_xl"))
    if _is_taken and "prepared" in INPUTS[_name].ends and not re.search("million|cmyk|frame", _name):
        INPUTS[f"{_name}_as_it_is"] = replace(INPUTS[_name], limits=LIMITS_AS_IT_IS)

__all__ = ["INPUTS", "LIMITS", "LIMITS_AS_IT_IS", "Hostile"]
