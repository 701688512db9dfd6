"""Which contents the records of a whole container use, in a set of fixed size."""


class UsedContents:
    """A set of content keys in 8 MiB, however many there are: a Bloom filter, which may also claim keys it lacks.

    With four bits a key, it claims 0.001 % of other keys at a million keys and 4 % at ten million. All that follows is
    that a content is kept longer than needed.
    """

    _SIZE = 1 << 26

    def __init__(self, bits: bytearray | None = None) -> None:
        self.bits = bits if bits is not None else bytearray(self._SIZE // 8)

    def add(self, key: str) -> None:
        """Add a key. It is a hash in hexadecimal, so its parts serve as independent hashes."""
        bits = self.bits
        for position in self._positions(key):
            bits[position >> 3] |= 1 << (position & 7)

    def __contains__(self, key: str) -> bool:
        return all(self.bits[position >> 3] >> (position & 7) & 1 for position in self._positions(key))

    def _positions(self, key: str) -> tuple[int, int, int, int]:
        last = self._SIZE - 1
        hash_ = int(key[:32] or "0", 16)
        return hash_ & last, hash_ >> 26 & last, hash_ >> 52 & last, hash_ >> 78 & last
