"""Has a licence verified by a process of its own, whose memory is given back.

``python -m tenantry.daemon.licences.checking FOLDER KIND`` prints what `require` says, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

from tenantry.daemon.domain.failures import FileUnusable
from tenantry.daemon.licences.folder import LicenceFolder
from tenantry.process.files import FileExposed
from tenantry.protocol.failures import CATALOGUE, Failure, LicenceMissing
from tenantry.protocol.licences import Licence, LicenceKind, decode_licence, encode_licence

_TIMEOUT_S = 60.0
_PROGRAM = (sys.executable, "-P", "-m", "tenantry.daemon.licences.checking")


async def licence_in_force(data: Path, kind: LicenceKind) -> Licence:
    """The licence of this kind that is in force on this machine. Raises LicenceMissing, LicenceExpired and other failures."""
    return await asyncio.to_thread(_ask, data, kind)


def _ask(data: Path, kind: LicenceKind) -> Licence:
    try:
        done = subprocess.run([*_PROGRAM, str(data), kind.value], capture_output=True, timeout=_TIMEOUT_S, check=True)
        answer = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise LicenceMissing(cause=f"it could not be verified ({type(error).__name__})") from None
    if "reason" in answer:
        raise CATALOGUE[answer["reason"]](**answer["metadata"])
    return decode_licence(answer["licence"].encode())


def main() -> int:
    """Print the answer."""
    from tenantry.daemon.licences.verifying import judge, require  # noqa: PLC0415 - the library that must not stay loaded

    data, kind = sys.argv[1:]
    try:
        licence = require(judge(LicenceFolder(Path(data))), LicenceKind(kind), time.time_ns() // 1_000_000)
        answer: dict[str, object] = {"licence": encode_licence(licence).decode()}
    except FileExposed as exposed:
        problem = FileUnusable(path=str(exposed.path), problem=f"{exposed.problem}; {exposed.remedy}")
        answer = {"reason": problem.reason, "metadata": problem.metadata}
    except OSError as error:
        problem = FileUnusable(path=str(error.filename), problem=error.strerror or type(error).__name__)
        answer = {"reason": problem.reason, "metadata": problem.metadata}
    except Failure as failure:
        answer = {"reason": failure.reason, "metadata": failure.metadata}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
