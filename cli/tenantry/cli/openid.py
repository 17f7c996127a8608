"""Signing in through the Master's OpenID provider: with a browser on this machine, or with one elsewhere."""

from __future__ import annotations

import time
import webbrowser
from contextlib import suppress
from threading import Thread

import click

from tenantry.cli.browser import CallbackListener
from tenantry.cli.connection import Master
from tenantry.cli.escaping import escape
from tenantry.cli.moments import now_ms, timestamp_ms
from tenantry.cli.troubles import DeadlineExceeded, SignInIncomplete
from tenantry.v1 import openid_service_pb2 as pb
from tenantry.v1.session_service_pb2 import SignInResponse

SHORTEST_S = 60.0
LONGEST_S = 600.0
AGAIN = "Start again with `tenantry login --openid`."


def sign_in_here(master: Master) -> SignInResponse:
    """A session by a browser on this machine, which is opened. Raises as `Master.call`, SignInIncomplete, DeadlineExceeded."""
    with CallbackListener() as listener:
        begun = master.call(master.openid.BeginSignIn, pb.BeginSignInRequest(redirect_uri=listener.redirect_uri))
        click.echo(f"Sign in with your browser:\n\n  {escape(begun.authorization_url)}\n", err=True)
        # A browser that stays in front, as `BROWSER` may name one, is served while it runs.
        Thread(target=_open_browser, args=(begun.authorization_url,), daemon=True).start()
        # By this machine's clock, which may be wrong: the Master decides when it is too late.
        seconds = min(LONGEST_S, max(SHORTEST_S, (timestamp_ms(begun.expire_time) - now_ms()) / 1000))
        found = listener.wait(begun.state, seconds)
    if found is None:
        raise DeadlineExceeded(f"no browser came back within {seconds:.0f} s", AGAIN)
    if found.error or not found.code:
        raise SignInIncomplete(f"the provider refused: {escape(found.error or 'it gave no code')}", AGAIN)
    finished = pb.FinishSignInRequest(secret=begun.secret, state=begun.state, code=found.code)
    return master.call(master.openid.FinishSignIn, finished).session


def _open_browser(address: str) -> None:
    with suppress(webbrowser.Error):  # the address that was printed can be opened by hand
        webbrowser.open(address)


def sign_in_elsewhere(master: Master) -> SignInResponse:
    """A session by a browser on any machine, where the user types a code. Raises as `sign_in_here`."""
    begun = master.call(master.openid.BeginDeviceSignIn, pb.BeginDeviceSignInRequest())
    click.echo(
        f"On any machine open {escape(begun.verification_uri)} and type the code {escape(begun.user_code)}", err=True
    )
    if begun.complete_verification_uri:
        click.echo(f"(or open {escape(begun.complete_verification_uri)})", err=True)
    interval_s = max(1.0, begun.interval.seconds + begun.interval.nanos / 1e9)
    while True:
        time.sleep(interval_s)
        answer = master.call(master.openid.FinishDeviceSignIn, pb.FinishDeviceSignInRequest(secret=begun.secret))
        if answer.HasField("session"):
            return answer.session
