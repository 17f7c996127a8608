"""Syslog, against rsyslog: by datagrams, TCP and TLS."""

from collections.abc import Iterator

import pytest

from tenantry.master.domain.receivers import SyslogSettings, SyslogTransport
from tests.master.delivering.outgoings import KEY, outgoing, sender
from tests.servers import rsyslog
from tests.servers.rsyslog import Rsyslog, running_rsyslog


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    """One for all these tests."""
    program = rsyslog.find_program()
    if program is None:
        pytest.skip("this machine has no rsyslog (`make programs` installs it)")
    with running_rsyslog(program, tmp_path_factory.mktemp("syslog") / "server") as running:
        yield running


def settings(server: Rsyslog, transport: SyslogTransport) -> SyslogSettings:
    """A receiver at this server."""
    port = getattr(server, transport.value)
    secure = transport is SyslogTransport.TLS
    return SyslogSettings(
        "localhost" if secure else "127.0.0.1",
        port,
        transport,
        facility=20,
        text="{{ message }} {{ fields.note }}",
        authorities=server.ca.read_text() if secure else "",
    )


@pytest.mark.parametrize("transport", list(SyslogTransport))
async def test_a_message_is_understood(server: Rsyslog, transport: SyslogTransport) -> None:
    """Its priority, time, host and key; line ends, brackets and quotes in what is told forge nothing."""
    before = len(server.got())
    evil = 'a\n<13>1 - evil - - - - forged\u2028"]\x1b[0m'
    attempt = await sender().send(outgoing(settings(server, transport), fields={"note": evil}, rule='x"] [evil@1 a="b'))
    assert attempt.taken, attempt.detail
    (message,) = (await server.received(before + 1))[before:]
    assert message["way"] == transport.value
    assert int(message["priority"]) == 20 * 8 + 3, "high is an error"
    assert message["host"] == "master.example.org"
    assert (message["program"], message["kind"]) == ("tenantry-master", "alert")
    assert message["moment"].startswith("2025-10-09T08:53:20.123")
    assert message["text"].lstrip("\ufeff") == ('system.cpu.utilization is 0.97 a <13>1 - evil - - - - forged "] [0m')
    assert f'delivery="{KEY}"' in message["data"]
    assert "[evil@1" not in message["data"].replace('\\"\\] [evil@1', ""), message["data"]


async def test_a_server_that_is_not_there(server: Rsyslog) -> None:
    """TCP and TLS say so; a strange certificate is not accepted."""
    there = sender(patience_s=3)
    gone = await there.send(outgoing(SyslogSettings("127.0.0.1", 1, SyslogTransport.TCP)))
    strange = await there.send(outgoing(SyslogSettings("localhost", server.tls, SyslogTransport.TLS)))
    assert "refuses connections" in gone.detail
    assert "certificate is not accepted" in strange.detail
