"""The browser's session and the proof of its sign-in, in cookies that no script can read and no other site makes it send."""

import re
from typing import Final

from tenantry.master.operations.proofs import PROOF_LIFETIME_MS

NAME: Final = "__Host-tenantry"
"""The prefix binds it to this very host, over TLS, for all paths: no neighbour below the same domain can set it."""

PROOF: Final = "__Host-tenantry-proof"

# Strict, though people come back from an OpenID provider: the page that they come back to needs no cookie to load, and what it then
# asks for is asked by the page itself.
_ATTRIBUTES: Final = "Path=/; Secure; HttpOnly; SameSite=Strict"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")


def session_token(cookies: str) -> str | None:
    """The token in the value of a ``Cookie`` header; None where there is none, or two."""
    return _value(cookies, NAME)


def sign_in_proof(cookies: str) -> str | None:
    """The proof of an earlier sign-in in the value of a ``Cookie`` header; None where there is none, or two."""
    return _value(cookies, PROOF)


def hold_proof(proof: str) -> tuple[str, str]:
    """The header that makes a browser keep this proof, for as long as one holds."""
    return "set-cookie", f"{PROOF}={proof}; Max-Age={PROOF_LIFETIME_MS // 1000}; {_ATTRIBUTES}"


def _value(cookies: str, wanted: str) -> str | None:
    pairs = (one.strip().partition("=") for one in cookies.split(";"))
    found = [value for name, _, value in pairs if name == wanted]
    return found[0] if len(found) == 1 and _TOKEN.fullmatch(found[0]) else None


def hold(token: str) -> tuple[str, str]:
    """The header that makes a browser keep this session until it is closed; the Master ends it earlier or later than that."""
    return "set-cookie", f"{NAME}={token}; {_ATTRIBUTES}"


def let_go() -> tuple[str, str]:
    """The header that makes a browser forget its session."""
    return "set-cookie", f"{NAME}=; Max-Age=0; {_ATTRIBUTES}"
