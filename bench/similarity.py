"""How similar two pictures look."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

type Plane = NDArray[np.float32]

# The constants of Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to Structural
# Similarity" (2004): 11 x 11 Gaussian windows of 1.5 pixels, and two constants against 0 / 0.
_TAPS: Final = 11
_SIGMA: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


def ssim(one: Image.Image, other: Image.Image) -> float:
    """The mean structural similarity of the luma of two pictures of the same size; 1 means identical."""
    if one.size != other.size:
        raise ValueError(f"Pictures of {one.size} and {other.size} pixels cannot be compared.")
    x, y = (np.asarray(image.convert("L"), dtype=np.float32) for image in (one, other))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    return float(np.mean(alike / ((mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2))))


def _blur(plane: Plane) -> Plane:
    """The Gaussian-weighted mean around each pixel that has a whole window around it."""
    offsets = np.arange(_TAPS) - _TAPS // 2
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = plane.shape[0] - _TAPS + 1, plane.shape[1] - _TAPS + 1
    down = np.zeros((height, plane.shape[1]), dtype=np.float32)
    for offset, weight in enumerate(weights):
        down += weight * plane[offset : offset + height]
    blurred = np.zeros((height, width), dtype=np.float32)
    for offset, weight in enumerate(weights):
        blurred += weight * down[:, offset : offset + width]
    return blurred
