"""What the daemon lets a short-lived process do: all that needs the certificate library, which would stay in memory for good.

``python -m tenantry.daemon.link.certificate_work FOLDER request|accept|trust|witness``; what is to be done comes by standard input,
what comes of it goes to standard output. Keys stay in files of the identity folder: they are neither arguments nor in the environment
nor in a pipe.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tenantry.daemon.link.certificates import check_trust_bundle, generate_key, make_request, read_credential
from tenantry.daemon.link.head_work import witness_heads
from tenantry.daemon.link.identity import IdentityFolder
from tenantry.process.files import FileExposed
from tenantry.protocol.failures import Failure


def work(folder: IdentityFolder, order: str, given: bytes) -> bytes:
    """Carry out an order; returns what goes to standard output. Raises ValueError, OSError, FileExposed.

    ``request``: a new key in its file, and a request with it. ``accept``: the Master's answer to that request, checked and stored.
    ``trust``: a bundle of roots, checked and stored. ``witness``: heads of the Master's audit, proven, compared and kept.
    """
    match order:
        case "request":
            private_key = generate_key()
            folder.store_renewal_key(private_key)
            return make_request(private_key)
        case "accept":
            answer = json.loads(given)
            credential = read_credential(folder.renewal_key(), answer["chain"].encode())
            folder.store_trust(check_trust_bundle(answer["bundle"]))
            folder.store_next(credential)
            return credential.serial.encode()
        case "trust":
            folder.store_trust(check_trust_bundle(given.decode()))
            return b""
        case "witness":
            shown = json.loads(given)
            return json.dumps(witness_heads(folder.folder, shown["tokens"], shown["now_ms"])).encode()
        case _:
            raise ValueError(f"no such order: {order}")


def main() -> int:
    """Returns the exit code; what went wrong is the only line on standard error."""
    folder, order = sys.argv[1:]
    try:
        sys.stdout.buffer.write(work(IdentityFolder(Path(folder)), order, sys.stdin.buffer.read()))
    except (ValueError, OSError, FileExposed) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    except Failure as failure:
        sys.stderr.write(f"{failure.describe()}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
