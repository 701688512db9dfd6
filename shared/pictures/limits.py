"""How large a picture may be before and after preparation, what the model takes, and what preparation returns."""

from dataclasses import dataclass

from shared.known_models import image_types
from shared.settings import Settings

PNG, JPEG, WEBP = "image/png", "image/jpeg", "image/webp"

# Which preparation made a record: the one for models that take PNG alone, or the one for models that take JPEG, too.
# Increase both whenever the same picture would come out with different pixels. Records with another number are
# outdated: they are made again when an operator asks for it.
PREPARATION_AS_PNG, PREPARATION_AS_IT_IS = 2, 3


@dataclass(frozen=True)
class Limits:
    """Limits of the picture as uploaded (pixels) and as sent to the model: its pixels, bytes and media types."""

    image_max_pixels: int
    model_max_pixels: int
    model_max_bytes: int
    image_types: frozenset[str] = frozenset({PNG})

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """The limits in the app settings, for what models take at their endpoint."""
        taken = image_types(settings.foundry_endpoints[0])
        return cls(settings.image_max_pixels, settings.model_max_pixels, settings.model_max_bytes, taken)

    @property
    def preparation(self) -> int:
        """The number of the preparation within these limits."""
        return PREPARATION_AS_IT_IS if JPEG in self.image_types else PREPARATION_AS_PNG


@dataclass(frozen=True)
class Prepared:
    """A file of ``file_type`` with ``width`` x ``height`` upright pixels, and the media type and size of the original.

    It holds nothing but its pixels.
    """

    file: bytes
    file_type: str
    width: int
    height: int
    media_type: str
    original_width: int
    original_height: int
