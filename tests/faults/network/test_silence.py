"""F9, F10, F11: nobody says that anything is wrong. Four kinds of silence, side by side, because each is mostly waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.faults.network.silence import black_hole, frozen_daemon, frozen_master, hung_daemon
from tests.servers.namespaces import NoNamespaces

SILENCES = {
    "F9: a black hole": black_hole,
    "F10: a frozen Master": frozen_master,
    "F11: a frozen daemon": frozen_daemon,
    "F11: a hung daemon": hung_daemon,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseException | None]:
    """What became of each."""

    async def run(name: str, silence: Coroutine[Any, Any, None]) -> tuple[str, BaseException | None]:
        try:
            await silence
        except Exception as error:  # noqa: BLE001 - the test of this silence raises it
            return name, error
        return name, None

    async def run_all() -> list[tuple[str, BaseException | None]]:
        folders = {name: tmp_path_factory.mktemp(silence.__name__) for name, silence in SILENCES.items()}
        return await asyncio.gather(*(run(name, silence(folders[name])) for name, silence in SILENCES.items()))

    return dict(asyncio.run(run_all()))


@pytest.mark.slow
@pytest.mark.parametrize("silence", SILENCES)
def test_silence_is_noticed_by_both_ends_told_once_and_costs_no_record(
    outcomes: dict[str, BaseException | None], silence: str
) -> None:
    """Links end within 9 s (a hung daemon's stays), one alert is raised within 20 s and ends, everything is delivered."""
    outcome = outcomes[silence]
    if isinstance(outcome, NoNamespaces):
        pytest.skip(f"no network namespaces (root and `ip netns` are needed): {outcome}")
    if outcome is not None:
        raise outcome
