"""What a picture is prepared to for the model. The work itself is in ``shared.pictures``."""

from dataclasses import dataclass

from shared.memory import keep_large_blocks
from shared.settings import Settings

# Raised whenever the same picture would be prepared to other pixels than before: records of older ones are stale.
PREPARATION = 1

# Before there are threads: each that has asked for memory by then keeps an arena of its own.
keep_large_blocks()


@dataclass(frozen=True)
class Limits:
    """How large a picture may come (pixels), and how large it may go to the model (pixels and PNG bytes)."""

    image_max_pixels: int
    model_max_pixels: int
    model_max_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Return the limits that the app settings name."""
        return cls(settings.image_max_pixels, settings.model_max_pixels, settings.model_max_bytes)


@dataclass(frozen=True)
class Prepared:
    """An upright 8-bit PNG of ``width`` x ``height`` pixels, and what it was made from."""

    png: bytes
    width: int
    height: int
    media_type: str
    original_width: int
    original_height: int


def prepare(data: bytes, limits: Limits) -> Prepared:
    """See :func:`shared.pictures.prepare`, which this imports with the first picture: most starts see none soon."""
    from shared import pictures

    return pictures.prepare(data, limits)
