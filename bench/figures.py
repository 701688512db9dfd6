"""What a figure is, and when it reaches its target."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measurement:
    """A value, the range of the middle half of its rounds (of all, where they are few), and how it came about."""

    value: float
    low: float
    high: float
    source: str

    @classmethod
    def median(cls, values: Sequence[float], source: str) -> "Measurement":
        """The median of several rounds, with the lowest and the highest of them."""
        return cls(statistics.median(values), min(values), max(values), source)

    @classmethod
    def once(cls, value: float, source: str) -> "Measurement":
        """A value that was measured once."""
        return cls(value, value, value, source)


@dataclass(frozen=True)
class Figure:
    """Something to measure, and the number that it should reach.

    One that only ``counts`` may be measured while others do: no other load on the machine changes it.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    aim: float | Callable[[], float] | None
    measure: Callable[[], Measurement]
    counts: bool = False

    @property
    def target(self) -> float | None:
        """The number, taken from the same run where it depends on another figure; ``None`` where there is none."""
        return self.aim() if callable(self.aim) else self.aim

    def reached(self, measurement: Measurement) -> bool:
        """Whether the value is at its target or better."""
        target = self.target
        if target is None:
            return True
        return measurement.value >= target if self.better == "higher" else measurement.value <= target

    def certain(self, measurement: Measurement) -> bool:
        """Whether the value is further from its target than its rounds are from one another."""
        target = self.target
        return target is None or measurement.high - measurement.low <= abs(measurement.value - target)
