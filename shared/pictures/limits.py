"""How large a picture may be before and after preparation, and what preparation returns."""

from dataclasses import dataclass

from shared.settings import Settings

# Increase this whenever the same picture would come out with different pixels. Records with another number are
# outdated: they are made again when an operator asks for it.
PREPARATION = 2


@dataclass(frozen=True)
class Limits:
    """Limits of the picture as uploaded (pixels) and as sent to the model (pixels and bytes of the PNG)."""

    image_max_pixels: int
    model_max_pixels: int
    model_max_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits in the app settings."""
        return cls(settings.image_max_pixels, settings.model_max_pixels, settings.model_max_bytes)


@dataclass(frozen=True)
class Prepared:
    """An upright 8-bit PNG of ``width`` x ``height`` pixels, with the media type and size of the original."""

    png: bytes
    width: int
    height: int
    media_type: str
    original_width: int
    original_height: int
