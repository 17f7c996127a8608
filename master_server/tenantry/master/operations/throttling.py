"""How many attempts somebody may make: bounded in count and in memory."""

from collections import OrderedDict
from dataclasses import dataclass

from tenantry.protocol.failures import TooManyAttempts


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_ms: int


class TokenBuckets:
    """A bucket a key, each full at first. Of the keys only the ones used last are remembered. Times are steady milliseconds."""

    def __init__(self, capacity: int, *, per_minute: float, keys: int = 10_000) -> None:
        self._capacity = capacity
        self._per_ms = per_minute / 60_000
        self._keys = keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_ms(self, key: str, now_ms: int, count: int = 1) -> int:
        """How long until there are so many to take (at most the capacity); 0: they are there now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0
        self._refill(bucket, now_ms)
        return 0 if bucket.tokens >= count else max(1, round((count - bucket.tokens) / self._per_ms))

    def take(self, key: str, now_ms: int, count: int = 1) -> None:
        """Take so many, even where they are not there: what is under way already counts too."""
        bucket = self._buckets.pop(key, None) or _Bucket(self._capacity, now_ms)
        self._buckets[key] = bucket
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
        self._refill(bucket, now_ms)
        bucket.tokens -= count

    def give_back(self, key: str) -> None:
        """Put back what was taken for something that turned out well."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens = min(self._capacity, bucket.tokens + 1)

    def _refill(self, bucket: _Bucket, now_ms: int) -> None:
        bucket.tokens = min(self._capacity, bucket.tokens + max(0, now_ms - bucket.at_ms) * self._per_ms)
        bucket.at_ms = now_ms


class AttemptLimit:
    """Token buckets for failed attempts, one a source and one for all. Successes cost nothing, so that a fleet can enrol at once."""

    def __init__(self, *, per_minute: int, all_per_minute: int, sources: int = 10_000) -> None:
        self._sources = TokenBuckets(per_minute, per_minute=per_minute, keys=sources)
        self._all = TokenBuckets(all_per_minute, per_minute=all_per_minute, keys=1)

    def check(self, source: str, now_ms: int) -> None:
        """Raise TooManyAttempts when the source, or all together, have failed too often. ``now_ms`` is steady."""
        refuse_early(self._all.wait_ms("", now_ms), self._sources.wait_ms(source, now_ms))

    def failed(self, source: str, now_ms: int) -> None:
        """Count a failed attempt."""
        self._sources.take(source, now_ms)
        self._all.take("", now_ms)


def refuse_early(*waits_ms: int) -> None:
    """Raise TooManyAttempts unless nothing has to be waited for; the longest wait is told, in whole seconds."""
    longest = max(waits_ms)
    if longest > 0:
        raise TooManyAttempts(retry_after_s=max(1, -(-longest // 1000)))
