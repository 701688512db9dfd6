"""What a picture is prepared to, for the model, and how large it may be before and after."""

from dataclasses import dataclass

from shared.settings import Settings

# Raise this whenever the same picture would come out with other pixels. Records with another number are outdated: they
# are made again when an operator asks for it.
PREPARATION = 1


@dataclass(frozen=True)
class Limits:
    """How large a picture may be when it comes (pixels), and when it goes to the model (pixels and PNG bytes)."""

    image_max_pixels: int
    model_max_pixels: int
    model_max_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits that the app settings name."""
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
