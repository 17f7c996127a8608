"""F45: a second Master."""

from pathlib import Path

from tests.faults.network.ports import check_port_is_not_shared


def test_f45_a_second_master_does_not_get_the_port_of_the_first(tmp_path: Path) -> None:
    """It says so and ends, instead of taking half of the connections."""
    check_port_is_not_shared(tmp_path)
