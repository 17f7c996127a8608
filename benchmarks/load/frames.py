"""Metric frames as a machine would send them: made before a measurement, so that sending costs next to nothing."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from tenantry.protocol.layouts import Layout, Series, SeriesKind, make_layout

MACHINES: Final = 512
TICKS: Final = 120
TICK_MS: Final = 10_000


def machine_layout(series: int) -> Layout:
    """A layout of so many series: three gauges for each counter, named and labelled as the daemon's probes do it."""
    made = []
    for number in range(series):
        labels = (("device", f"device{number // 4:03}"), ("state", f"state{number % 4}"))
        if number % 4 == 3:
            made.append(Series("system.disk.io", "By", SeriesKind.COUNTER, labels))
        else:
            made.append(Series("system.cpu.utilization", "1", SeriesKind.GAUGE, labels))
    return make_layout(made)


def machine_values(series: int, seed: int) -> NDArray[np.float64]:
    """`TICKS` x ``series`` values of one machine: slow gauges with four decimals, whole counters that grow unevenly."""
    random = np.random.default_rng(seed)
    gauges = np.abs(random.normal(0.3, 0.2, series) + np.cumsum(random.normal(0, 0.01, (TICKS, series)), axis=0))
    values: NDArray[np.float64] = np.round(gauges, 4).astype(np.float64)
    steps = random.poisson(40, (TICKS, series)) * 4096 * (random.random((TICKS, series)) < 0.6)
    counters = random.integers(0, 1 << 34, series) + np.cumsum(steps, axis=0)
    values[:, 3::4] = counters[:, 3::4]
    return values


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Values of some machines; a Tenant sends those of the machine with its number, over and over."""

    layout: Layout
    values: tuple[tuple[bytes, ...], ...]

    @classmethod
    def of(cls, series: int) -> Self:
        """Frames of so many samples."""
        machines = (machine_values(series, seed) for seed in range(MACHINES))
        return cls(
            machine_layout(series), tuple(tuple(tick.astype("<f8").tobytes() for tick in one) for one in machines)
        )

    @property
    def samples(self) -> int:
        """Samples in a frame."""
        return len(self.layout.series)

    def value(self, machine: int, seq: int) -> bytes:
        """The values of the frame ``seq`` of a machine."""
        own = self.values[machine % MACHINES]
        return own[seq % TICKS]
