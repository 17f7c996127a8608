"""How many failed attempts a source may make: bounded in count and in memory."""

from collections import OrderedDict
from dataclasses import dataclass

from tenantry.protocol.failures import TooManyAttempts


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


class AttemptLimit:
    """Token buckets for failed attempts, one a source and one for all. Successes cost nothing, so that a fleet can enrol at once."""

    def __init__(self, *, per_minute: int, all_per_minute: int, sources: int = 10_000) -> None:
        self._per_minute = per_minute
        self._all = _Bucket(all_per_minute, 0)
        self._all_per_minute = all_per_minute
        self._sources = sources
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, source: str, now_ms: int) -> None:
        """Raise TooManyAttempts when the source, or all together, have failed too often. ``now_ms`` is steady."""
        self._check(self._all, self._all_per_minute, now_ms)
        bucket = self._buckets.get(source)
        if bucket is not None:
            self._check(bucket, self._per_minute, now_ms)

    def failed(self, source: str, now_ms: int) -> None:
        """Count a failed attempt."""
        bucket = self._buckets.pop(source, None) or _Bucket(self._per_minute, now_ms)
        self._buckets[source] = bucket
        if len(self._buckets) > self._sources:
            self._buckets.popitem(last=False)
        _refill(bucket, self._per_minute, now_ms)
        _refill(self._all, self._all_per_minute, now_ms)
        bucket.tokens -= 1
        self._all.tokens -= 1

    @staticmethod
    def _check(bucket: _Bucket, per_minute: int, now_ms: int) -> None:
        _refill(bucket, per_minute, now_ms)
        if bucket.tokens < 1:
            wait_s = (1 - bucket.tokens) * 60 / per_minute
            raise TooManyAttempts(retry_after_s=max(1, round(wait_s)))


def _refill(bucket: _Bucket, per_minute: int, now_ms: int) -> None:
    bucket.tokens = min(per_minute, bucket.tokens + max(0, now_ms - bucket.at_ms) * per_minute / 60_000)
    bucket.at_ms = now_ms
