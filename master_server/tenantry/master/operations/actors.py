"""On whose behalf something is done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: ``kind`` is operator, tenant, rule or system; ``name`` the token's name, the GUID, or the part of the Master."""

    kind: str
    name: str
    address: str = ""
    request_id: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


SYSTEM = Actor("system", "master")
