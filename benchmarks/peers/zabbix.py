"""Zabbix server with PostgreSQL: values for trapper items, sent as Zabbix senders do, and one trigger for each host."""

import contextlib
import gzip
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psycopg

from benchmarks import machine
from benchmarks.load.frames import FrameSource
from benchmarks.peers.installing import PeerMissing, find
from benchmarks.peers.serving import free_port, serving, settle
from benchmarks.rule import FOR_S, LIMIT, NAME, PLACE
from tests.servers.postgres import SUPERUSER, find_programs, run_postgres

_SQL: Final = Path("/usr/share/zabbix-server-pgsql")
_FIRST_ID: Final = 1_000_000
_HEADER: Final = struct.Struct("<4sBQ")


def measure_zabbix(folder: Path, source: FrameSource, tenants: int, seconds: float) -> tuple[machine.Busy, int]:
    """What a load cost Zabbix and its PostgreSQL, and how many samples are in the database. Raises PeerMissing."""
    program, programs = find("zabbix_server"), find_programs()
    if programs is None or not _SQL.is_dir():
        raise PeerMissing("PostgreSQL, or the schema of zabbix-server-pgsql, is not installed")
    with contextlib.ExitStack() as stack:
        with machine.pinned(machine.SERVER_CORES):
            url = stack.enter_context(run_postgres(programs))
        postgres = _postmaster(url)
        _prepare(url, source, tenants)
        port = free_port()
        pid = stack.enter_context(serving([program, "-f", "-c", str(_configure(folder, url, port))], port, folder))
        load = _Sender(port, source, tenants)
        load.wait_until_known()
        settle(pid)
        return _run(load, pid, postgres, url, seconds)


def _run(load: "_Sender", pid: int, postgres: int, url: str, seconds: float) -> tuple[machine.Busy, int]:
    stored = _stored(url)
    wall, own = time.monotonic(), time.process_time()
    server = machine.cpu_seconds(pid) + machine.cpu_seconds(postgres)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        load.send()
    settle(pid)  # what waits in its caches is to be written too
    busy = machine.Busy(
        time.monotonic() - wall,
        machine.cpu_seconds(pid) + machine.cpu_seconds(postgres) - server,
        time.process_time() - own,
    )
    return busy, _stored(url) - stored


def _prepare(url: str, source: FrameSource, tenants: int) -> None:
    folder = parse_qs(urlsplit(url).query)["host"][0]
    for name in ("schema", "images", "data"):
        command = ["psql", "-q", "-h", folder, "-U", SUPERUSER, "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "postgres"]
        script = gzip.decompress((_SQL / f"{name}.sql.gz").read_bytes())
        subprocess.run(command, input=script, check=True, capture_output=True)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE hosts SET status = 1 WHERE status = 0")
        with cursor.copy("COPY hosts (hostid, host, name, status) FROM STDIN") as copy:
            for tenant in range(tenants):
                copy.write_row((_FIRST_ID + tenant, _host(tenant), _host(tenant), 0))
        columns = "itemid, type, hostid, name, key_, value_type, delay, params, description, posts, headers"
        numbers = [_FIRST_ID + number for number in range(tenants * source.samples)]
        with cursor.copy(f"COPY items ({columns}) FROM STDIN") as copy:
            for place, number in enumerate(numbers):
                tenant, item = divmod(place, source.samples)
                key = _key(item)
                copy.write_row((number, 2, _FIRST_ID + tenant, key, key, 0, "0", "", "", "", ""))
        with cursor.copy("COPY item_rtdata (itemid) FROM STDIN") as copy:
            for number in numbers:
                copy.write_row((number,))
        judged = numbers[PLACE :: source.samples]
        with cursor.copy("COPY triggers (triggerid, expression, description) FROM STDIN") as copy:
            for number in judged:
                copy.write_row((number, f"{{{number}}}>{LIMIT}", NAME))
        with cursor.copy("COPY functions (functionid, itemid, triggerid, name, parameter) FROM STDIN") as copy:
            for number in judged:
                copy.write_row((number, number, number, "min", f"$,{FOR_S}s"))


def _configure(folder: Path, url: str, port: int) -> Path:
    settings = {
        "ListenPort": port,
        "ListenIP": "127.0.0.1",
        "LogFile": folder / "zabbix.log",
        "PidFile": folder / "zabbix.pid",
        "SocketDir": folder,
        "DBHost": parse_qs(urlsplit(url).query)["host"][0],
        "DBName": "postgres",
        "DBUser": SUPERUSER,
        "AllowRoot": 1,
        "StartPollers": 0,
        "StartPollersUnreachable": 0,
        "StartPingers": 0,
        "StartDiscoverers": 0,
        "StartHTTPPollers": 0,
        "StartTrappers": 4,
        "CacheSize": "256M",
        "HistoryCacheSize": "64M",
        "HistoryIndexCacheSize": "32M",
        "TrendCacheSize": "64M",
    }
    path = folder / "zabbix.conf"
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def _postmaster(url: str) -> int:
    folder = Path(parse_qs(urlsplit(url).query)["host"][0])
    return int((folder / "data" / "postmaster.pid").read_text().split()[0])


def _stored(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM history").fetchone()
    return int(row[0]) if row else 0


def _host(tenant: int) -> str:
    return f"tenant-{tenant:05}"


def _key(item: int) -> str:
    return f"series[{item}]"


class _Sender:
    """One connection a request, one Tenant's frame in each."""

    def __init__(self, port: int, source: FrameSource, tenants: int) -> None:
        self._port, self._source = port, source
        self._clock = int(time.time()) - 3_600
        self._turns = self._count(tenants)

    def send(self) -> int:
        """Send a frame; how many values the server took."""
        tenant, seq = next(self._turns)
        values = struct.unpack(f"<{self._source.samples}d", self._source.value(tenant, seq))
        host = _host(tenant)
        data = [
            {"host": host, "key": _key(item), "value": repr(value), "clock": self._clock + seq}
            for item, value in enumerate(values)
        ]
        body = json.dumps({"request": "sender data", "data": data}, separators=(",", ":")).encode()
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(_HEADER.pack(b"ZBXD", 1, len(body)) + body)
            answer = b"".join(iter(lambda: connection.recv(4_096), b""))
        info = json.loads(answer[_HEADER.size :]).get("info", "")
        return int(info.partition("processed: ")[2].partition(";")[0] or 0)

    def wait_until_known(self) -> None:
        """Return when the server has read its configuration. Raises PeerMissing."""
        deadline = time.monotonic() + 60
        while self.send() != self._source.samples:
            if time.monotonic() > deadline:
                raise PeerMissing("Zabbix takes no values for the items that were made")
            time.sleep(0.5)

    @staticmethod
    def _count(tenants: int) -> Iterator[tuple[int, int]]:
        seq = 0
        while True:
            seq += 1
            for tenant in range(tenants):
                yield tenant, seq
