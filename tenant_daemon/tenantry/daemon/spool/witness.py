"""What the data folder remembers about the spool outside of it, so that even a deleted spool can be declared lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from tenantry.process.files import read_private, write_private
from tenantry.protocol.messages import EpochLoss, LossReason, Stream


@dataclass(frozen=True, slots=True)
class LostEpoch:
    """A spool that is gone, not yet told to the Master."""

    epoch: bytes
    reason: LossReason
    detail: str


@dataclass(frozen=True, slots=True)
class Witness:
    """The epoch in use, the newest incarnation, and the epochs whose loss the Master has still to hear of."""

    epoch: bytes | None = None
    incarnation: int = 0
    lost: tuple[LostEpoch, ...] = ()

    def losing(self, epoch: bytes, reason: LossReason, detail: str) -> Witness:
        """After the loss of ``epoch``."""
        known = epoch in (one.epoch for one in self.lost)
        lost = self.lost if known else (*self.lost, LostEpoch(epoch, reason, detail))
        return replace(self, epoch=None, lost=lost)

    def declared(self) -> tuple[EpochLoss, ...]:
        """The losses as a Hello names them."""
        return tuple(EpochLoss(stream, one.epoch, one.reason, one.detail) for one in self.lost for stream in Stream)


def load_witness(path: Path) -> Witness:
    """What is remembered; nothing when there is no such file yet, or it cannot be understood any more."""
    try:
        content = json.loads(read_private(path))
        epoch = content["epoch"]
        return Witness(
            None if epoch is None else bytes.fromhex(epoch),
            int(content["incarnation"]),
            tuple(LostEpoch(bytes.fromhex(one), LossReason(why), text) for one, why, text in content["lost"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Witness()


def save_witness(path: Path, witness: Witness) -> None:
    """Write it down durably. Raises OSError."""
    content = {
        "epoch": None if witness.epoch is None else witness.epoch.hex(),
        "incarnation": witness.incarnation,
        "lost": [[one.epoch.hex(), one.reason.value, one.detail] for one in witness.lost],
    }
    write_private(path, json.dumps(content).encode())
