"""What every probe keeps to. A plug-in runs this against its own probe:

from tests.daemon.probes.contract import ProbeContract

class TestPumpProbe(ProbeContract):
    def make_probe(self) -> Probe:
        return PumpProbe()
"""

import math
import re
import threading
from collections.abc import Sequence

from tenantry.daemon.domain.readings import Reading
from tenantry.daemon.probes.contract import MAX_READINGS, Probe, measure
from tenantry.daemon.probes.discovery import LONGEST_INTERVAL_S, SHORTEST_INTERVAL_S
from tenantry.protocol.layouts import SeriesKind, make_layout

READS = 3
# Far more than a read may take; a probe that blocks for ever would otherwise block the suite too.
READ_WITHIN_S = 60.0


class ProbeContract:
    """The tests; a subclass says which probe."""

    def make_probe(self) -> Probe:
        raise NotImplementedError

    def reads(self) -> list[Sequence[Reading]]:
        """Several reads of one probe, in a thread as the daemon does it."""
        probe = self.make_probe()
        results: list[Sequence[Reading]] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.extend(tuple(probe.read()) for _ in range(READS))
            except Exception as error:  # noqa: BLE001 - shown by the assertion below
                errors.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(READ_WITHIN_S)
        assert not thread.is_alive(), "read() does not come back"
        assert errors == []
        return results

    def test_it_is_a_probe(self) -> None:
        """It has a name, an interval and notes, from the start."""
        probe = self.make_probe()
        assert isinstance(probe, Probe)
        assert re.fullmatch(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", probe.name)
        assert SHORTEST_INTERVAL_S <= probe.default_interval_s <= LONGEST_INTERVAL_S
        assert not isinstance(probe.notes, str)

    def test_its_readings_make_a_layout(self) -> None:
        """Every read has distinct series with sound names, units and ordered labels, and not too many."""
        for readings in self.reads():
            assert len(readings) <= MAX_READINGS
            assert len({(one.name, one.labels) for one in readings}) == len(readings)
            if readings:
                make_layout([one.series for one in readings])

    def test_nothing_is_left_out(self) -> None:
        """What it reads is fit to be sent as it is."""
        probe = self.make_probe()
        for _ in range(READS):
            assert not [note for note in measure(probe).notes if "left out:" in note or "failed" in note]

    def test_its_series_stay(self) -> None:
        """From the second read on the series are the same, in the same order, unless the machine has changed."""
        _, *later = [[one.series for one in readings] for readings in self.reads()]
        assert all(series == later[0] for series in later)

    def test_its_values_are_sound(self) -> None:
        """Finite numbers; shares lie between 0 and 1, and counters never fall."""
        before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for readings in self.reads():
            for one in readings:
                assert math.isfinite(one.value), one
                if one.name.startswith("system.") and one.name.endswith(".utilization"):
                    assert one.unit == "1"
                    assert 0 <= one.value <= 1, one
                if one.kind is SeriesKind.COUNTER:
                    assert one.value >= before.get((one.name, one.labels), 0), one
                    before[one.name, one.labels] = one.value
