"""Made-up embeddings of pictures and texts, which are as hard to search as real ones are known to be.

All pictures share a mean; 3,000 clusters of Zipf's sizes have eight clusters each within them; one picture in twenty is
a near-duplicate. The texts lie apart, beside a mean of their own (the "modality gap"), and point only faintly at what
they describe: the cosines of the best pictures are about 0.7 for a picture and 0.35 for a text.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DIMENSIONS: Final = 1024
_CLUSTERS: Final = 3000
_WITHIN: Final = 8
_NOISE: Final = 0.55

type Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """What all vectors have in common."""

    scales: Vectors
    mean: Vectors
    texts: Vectors
    clusters: Vectors
    within: Vectors
    shares: NDArray[np.float64]

    @classmethod
    def make(cls) -> "World":
        """The same one every time."""
        rng = np.random.default_rng(1)
        # Not all numbers of an embedding vary alike.
        scales = np.exp(0.3 * rng.standard_normal(DIMENSIONS)).astype(np.float32)
        mean, texts = _unit(rng, scales, 2)
        clusters = _unit(rng, scales, _CLUSTERS)
        within = _unit(rng, scales, _CLUSTERS * _WITHIN).reshape(_CLUSTERS, _WITHIN, DIMENSIONS)
        shares = 1 / np.arange(1, _CLUSTERS + 1)
        return cls(scales, mean, texts, clusters, within, shares / shares.sum())

    def pictures(self, seed: int, count: int) -> Vectors:
        """The embeddings of so many pictures."""
        rng = np.random.default_rng([2, seed])
        vectors = self._noise(rng, count)
        cluster, within = self._what(rng, count)
        vectors += 0.65 * self.mean
        vectors += 0.45 * self.clusters[cluster]
        vectors += 0.3 * self.within[cluster, within]
        near = np.flatnonzero(rng.random(count) < 0.05)
        near = near[near > 0]
        faint = np.float32(0.05 / np.sqrt(DIMENSIONS))
        vectors[near] = vectors[near - 1] + faint * rng.standard_normal((len(near), DIMENSIONS), np.float32)
        return _of_length_1(vectors)

    def descriptions(self, seed: int, count: int) -> Vectors:
        """The embeddings of so many texts, as frequent as the pictures that they describe."""
        rng = np.random.default_rng([3, seed])
        vectors = self._noise(rng, count)
        cluster, within = self._what(rng, count)
        vectors += 0.3 * self.mean + 0.75 * self.texts
        vectors += 0.22 * self.clusters[cluster] + 0.18 * self.within[cluster, within]
        return _of_length_1(vectors)

    def _noise(self, rng: np.random.Generator, count: int) -> Vectors:
        size = np.float32(_NOISE / np.sqrt(np.square(self.scales).sum()))
        vectors = rng.standard_normal((count, DIMENSIONS), np.float32)
        vectors *= self.scales * size
        return vectors

    def _what(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return rng.choice(_CLUSTERS, count, p=self.shares), rng.integers(_WITHIN, size=count)


def _unit(rng: np.random.Generator, scales: Vectors, count: int) -> Vectors:
    return _of_length_1(rng.standard_normal((count, DIMENSIONS), np.float32) * scales)


def _of_length_1(vectors: Vectors) -> Vectors:
    vectors /= np.sqrt(np.vecdot(vectors, vectors))[:, np.newaxis]
    return vectors
