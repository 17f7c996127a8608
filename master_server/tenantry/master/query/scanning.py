"""What a query reads: of which stream, whose, from when to when, which columns; and what was read so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tenantry.master.domain.access import EVERYTHING, Sight
from tenantry.master.domain.records import StreamName


@dataclass(frozen=True, slots=True)
class Scan:
    """What has to be read of a stream. Every narrowing may leave too much, never too little: the statement has the conditions."""

    stream: StreamName
    sight: Sight = EVERYTHING
    """What the caller sees. This one narrows exactly."""
    start_ms: int | None = None
    """Event time at or after, in Unix milliseconds."""
    end_ms: int | None = None
    """Event time before."""
    tenant_names: frozenset[str] | None = None
    tenant_guids: frozenset[str] | None = None
    instance_names: frozenset[str] | None = None
    metrics: frozenset[str] | None = None
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Values that a label must have, for samples alone."""
    columns: frozenset[str] | None = None
    """The columns that the statement names; None: all."""
    grain_ms: int | None = None
    """Of samples: a row for each cell of this grain (see ``partials``), and not for each sample; None: each sample."""

    def needs(self, column: str) -> bool:
        """Whether the statement may name this column."""
        return self.columns is None or column in self.columns


@dataclass(slots=True)
class Progress:
    """What a query has read so far of what it will read. Only what its caller sees is counted."""

    chunks: int = 0
    chunks_read: int = 0
    segments: int = 0
    segments_read: int = 0
    rows_read: int = 0
    """Records or samples that the engine was told of, before the statement's own conditions."""
    bytes_read: int = 0
    damaged: list[str] = field(default_factory=list)
    """What could not be read, and why."""
