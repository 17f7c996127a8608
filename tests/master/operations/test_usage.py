"""The figures of lists and cards: taken from the newest frames, and absent where nothing was sent."""

import math

from tenantry.master.operations.deliveries import LatestFrame
from tenantry.master.operations.usage import Usage, UsageReader
from tenantry.protocol.layouts import Series, SeriesKind, make_layout, pack_values


def series(name: str, **labels: str) -> Series:
    """A gauge; underscores of label names stand for dots."""
    words = sorted((key.replace("_", "."), value) for key, value in labels.items())
    return Series(name, "1", SeriesKind.GAUGE, tuple(words))


MACHINE = make_layout(
    [
        series("system.cpu.utilization", cpu="0"),
        series("system.cpu.utilization", cpu="1"),
        series("system.memory.utilization", system_memory_state="free"),
        series("system.memory.utilization", system_memory_state="used"),
        series("system.filesystem.utilization", system_filesystem_state="used", mountpoint="/"),
        series("system.filesystem.utilization", system_filesystem_state="used", mountpoint="/data"),
        series("system.filesystem.utilization", system_filesystem_state="free", mountpoint="/"),
    ]
)
CPU_ONLY = make_layout([series("system.cpu.utilization")])
OTHER = make_layout([series("custom.metric")])
NAN = math.nan


def reader() -> UsageReader:
    """Knows the three layouts by number."""
    usage = UsageReader()
    usage.learn({1: MACHINE, 2: CPU_ONLY, 3: OTHER})
    return usage


def frame(layout: int, timestamp_ms: int, *values: float) -> LatestFrame:
    """The newest tick of a layout."""
    return LatestFrame(layout, timestamp_ms, timestamp_ms, pack_values(values))


def test_figures_are_the_largest_of_their_kind() -> None:
    """The busiest CPU, used memory, the fullest disk; free shares are not taken for used ones."""
    assert reader().read([frame(1, 50, 0.1, 0.4, 0.9, 0.2, 0.3, 0.7, 0.99)]) == Usage(0.4, 0.2, 0.7, 50)


def test_what_was_not_sent_is_absent() -> None:
    """A NaN is no figure, neither alone nor beside others."""
    assert reader().read([frame(1, 50, NAN, 0.4, 0.9, NAN, NAN, NAN, 0.9)]) == Usage(0.4, None, None, 50)
    assert reader().read([frame(1, 50, *[NAN] * 7)]) == Usage(None, None, None, 50)


def test_newer_frames_win_and_older_ones_fill_in() -> None:
    """Frames of several layouts are put together by their event times, in whatever order they are given."""
    machine, cpu = frame(1, 50, 0.1, 0.1, 0.9, 0.2, 0.3, 0.3, 0.7), frame(2, 60, 0.9)
    assert reader().read([machine, cpu]) == reader().read([cpu, machine]) == Usage(0.9, 0.2, 0.3, 60)
    assert reader().read([machine, frame(2, 60, NAN)]) == Usage(0.1, 0.2, 0.3, 60)


def test_frames_without_figures_say_nothing() -> None:
    """Neither other metrics nor unknown layouts nor none at all are a usage."""
    assert reader().read([]) is None
    assert reader().read([frame(3, 50, 1.0), frame(9, 60, 1.0)]) is None
    assert reader().read([frame(3, 90, 1.0), frame(2, 60, 0.5)]) == Usage(0.5, None, None, 60)
