"""The main job of Tenantry on this machine: one Master, three Tenants, a table that moves.

``make demo`` runs it. Everything is done with the three programs as a user would do it, every process is a real one, and everything
that is written lies in ``.demo`` of the checkout. Ctrl-C ends it; ``DEMO_SECONDS=25`` ends it after that time, with exit code 0 only
if all three Tenants were seen as they should be and everything stopped cleanly.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
FOLDER = CHECKOUT / ".demo"
PROFILES = FOLDER / "profiles.yaml"
BUILT_CONSOLE = CHECKOUT / "master_server" / "tenantry" / "master" / "console" / "built" / "index.html"
ENDPOINTS = FOLDER / "master" / "run" / "endpoints.json"
PERSON = "demo"
PASSWORD_FILE = FOLDER / "password"
TENANTS = (("Acme GmbH", "Berlin"), ("Acme GmbH", "Hamburg"), ("Globex", "Lyon"))
IN_MAINTENANCE = 2
START_S = 60.0
STOP_S = 20.0


class DemoFailed(Exception):
    """Something did not go as it should; the message says what, and where its log is."""


def main() -> int:
    """Run the demo; the exit code."""
    seconds = float(os.environ.get("DEMO_SECONDS") or 0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A job in the background ignores SIGINT, and so would the table, which ends by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with only_demo(), contextlib.ExitStack() as running:
            play(seconds, running)
        say("Everything has stopped. What was written is in .demo; the next demo starts afresh.")
    except KeyboardInterrupt:
        say("Everything has stopped. What was written is in .demo; the next demo starts afresh.")
        return 0
    except DemoFailed as failure:
        say(f"The demo failed: {failure}")
        return 1
    return 0


def play(seconds: float, running: contextlib.ExitStack) -> None:
    """Set everything up, show it, and check what was shown."""
    start(running)
    show_commands(seconds)
    watch(seconds)
    check()


def start(running: contextlib.ExitStack) -> None:
    """A Master and three Tenants, connected, two of them active; `running` stops them at its end."""
    os.environ["TENANTRY_PROFILES"] = str(PROFILES)
    os.environ["TENANTRY_DAEMON_CONSOLE_LISTEN"] = "127.0.0.1:0"  # three daemons on one machine
    say("1. A Master: its authority, its store, the first administrator's token, a licence for evaluation")
    master = FOLDER / "master"
    do(
        "tenantry-master",
        "init",
        "--evaluation",
        "--data",
        master,
        "--host",
        "127.0.0.1",
        "--token-file",
        FOLDER / "token",
    )
    listen = ["--api-listen", "127.0.0.1:0", "--link-listen", "127.0.0.1:0"]
    listen += ["--set", "tunnels_listen=127.0.0.1:0", "--set", "relay_listen=127.0.0.1:0"]
    if BUILT_CONSOLE.exists():
        listen += ["--console-listen", "127.0.0.1:0"]
    running.enter_context(program("master", "tenantry-master", "run", "--data", FOLDER / "master", *listen))
    endpoints = wait_for(lambda: read_json(ENDPOINTS), "the Master to listen")
    root = next((FOLDER / "master" / "pki").glob("*/root.pem"))
    do("tenantry", "login", "--address", endpoints["api"], "--ca-file", root, "--token-file", FOLDER / "token")
    if endpoints["console"]:
        admit_person()

    say("2. Three Tenants: each is registered, joins with its one-time key, and runs as a process of its own")
    for number, (name, instance) in enumerate(TENANTS):
        data = FOLDER / f"tenant-{number + 1}"
        join = FOLDER / f"join-{number + 1}"
        do("tenantry", "tenant", "create", name, instance, "--tag", "demo", "--join-file", join)
        do("tenantry-daemon", "--data", data, "join", "--key-file", join)
        running.enter_context(program(data.name, "tenantry-daemon", "--data", data, "run"))
    wait_for(lambda: all(one["connectivity"] == "CONNECTED" for one in tenants()), "three links")

    say("3. Two of them are activated; the third stays in Maintenance and sends nothing")
    for number, (name, instance) in enumerate(TENANTS):
        if number != IN_MAINTENANCE:
            do("tenantry", "tenant", "activate", f"{name}/{instance}", "--reason", "demo")
    wait_for(as_it_should_begin, "the first metrics of two Tenants, and none of the third")


def admit_person() -> None:
    """Somebody who may do everything, for the web console."""
    PASSWORD_FILE.touch(0o600)
    PASSWORD_FILE.write_text(secrets.token_urlsafe(12))
    do("tenantry", "user", "create", PERSON, "--password-file", PASSWORD_FILE)
    do("tenantry", "role", "grant", "general-administrator", "main", "--user", PERSON)


def as_it_should_begin() -> bool:
    """Two active Tenants that show CPU, memory and disk, and one in Maintenance that shows nothing."""
    for tenant in tenants():
        figures = list(map(usage_of(tenant).get, ("cpu", "memory", "disk")))
        waits = (tenant["tenant_name"], tenant["instance_name"]) == TENANTS[IN_MAINTENANCE]
        if tenant["state"] != ("MAINTENANCE" if waits else "ACTIVE") or waits == (None not in figures):
            return False
    return True


def show_commands(seconds: float) -> None:
    """What a user can type meanwhile."""
    tenantry = f"TENANTRY_PROFILES={PROFILES.relative_to(CHECKOUT)} {PROGRAMS.relative_to(CHECKOUT)}/tenantry"
    say("4. The table below moves" + (f" for {seconds:g} s." if seconds else " until Ctrl-C."))
    say("   In a second terminal, in this folder:")
    for command in (
        "status",
        "tenant list",
        "tenant show 'Globex/Lyon'",
        "tenant activate 'Globex/Lyon' --reason 'ready'",
        "tenant maintain 'Acme GmbH/Berlin'",
        "stream list",
        "stream read metricsMaster --tenant 'Acme GmbH/Berlin' --metric system.cpu.utilization",
        "stream tail tenantStatusHistory",
        "license show",
        "console 'Acme GmbH/Berlin'",
        "tunnel list --all",
    ):
        say(f"     {tenantry} {command}")
    daemon = f"{PROGRAMS.relative_to(CHECKOUT)}/tenantry-daemon --data .demo/tenant-1"
    say(f"     {daemon} status")
    say(f"     {daemon} leave --for 30m --reason upgrade")
    console = read_json(ENDPOINTS)["console"]
    if console is None:
        say("   `make console` builds the web console, and the next demo has it (it needs the npm registry).")
    else:
        say(f"   In a browser: https://{console}/ as {PERSON}, with the password {PASSWORD_FILE.read_text()}")
        say("   (the browser does not know this Master's own authority, and says so)")
    say("")


def watch(seconds: float) -> None:
    """The CLI's own live table, or its plain lines where nobody looks."""
    command = [str(PROGRAMS / "tenantry"), "tenant", "watch"]
    # The table ends with its own SIGINT: from the terminal together with ours, or from here when the time is over.
    process = subprocess.Popen(command)
    try:
        code = process.wait(seconds or None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_S)
    except KeyboardInterrupt:
        process.wait(STOP_S)
        raise
    else:
        if code not in (0, 130):
            raise DemoFailed(f"`tenantry tenant watch` ended with exit code {code}")
        raise KeyboardInterrupt


def check() -> None:
    """Whether all is well at the end, whatever the user did meanwhile with the commands above."""
    for tenant in tenants():
        names, usage = f"{tenant['tenant_name']}/{tenant['instance_name']}", usage_of(tenant)
        if tenant["connectivity"] not in ("CONNECTED", "LEFT") or tenant["quarantine"] is not None:
            raise DemoFailed(f"{names} is {tenant['connectivity']}, quarantine {tenant['quarantine']}")
        sends = tenant["state"] == "ACTIVE" and tenant["connectivity"] == "CONNECTED"
        if sends and None in (usage.get("cpu"), usage.get("memory"), usage.get("disk")):
            raise DemoFailed(f"{names} shows no CPU, memory and disk: {usage}")


# --- processes ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def only_demo() -> Iterator[None]:
    """A fresh folder, and no second demo in it."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed("another demo runs in this checkout") from None
        for entry in FOLDER.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield


@contextlib.contextmanager
def program(name: str, *command: str | Path) -> Iterator[None]:
    """A program in the background, told to stop at the end, and expected to do so with exit code 0."""
    log = FOLDER / f"{name}.log"
    arguments = [str(PROGRAMS / command[0]), *map(str, command[1:])]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal is for us, and we stop the others in order.
        process = subprocess.Popen(arguments, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = -signal.SIGKILL
    if code:
        raise DemoFailed(f"{name} stopped with exit code {code}; see {log}")


def do(*command: str | Path) -> None:
    """Run a command that must succeed."""
    run(*command)


def run(*command: str | Path) -> str:
    """What a command prints; it must succeed."""
    arguments = [str(PROGRAMS / command[0]), *map(str, command[1:])]
    done = subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        shown = " ".join(map(str, command))
        raise DemoFailed(f"`{shown}` ended with exit code {done.returncode}:\n{done.stderr}{done.stdout}")
    return done.stdout


def tenants() -> list[dict[str, Any]]:
    """The Tenants as the CLI lists them."""
    found: list[dict[str, Any]] = json.loads(run("tenantry", "--output", "json", "tenant", "list"))
    return found


def usage_of(tenant: dict[str, Any]) -> dict[str, float | None]:
    """A Tenant's newest figures; empty when it has sent none."""
    return tenant.get("usage") or {}


def read_json(path: Path) -> Any:
    """A JSON file; None while it is not there."""
    return json.loads(path.read_text()) if path.exists() else None


def wait_for(condition: Any, what: str) -> Any:
    """The first true answer. Raises DemoFailed after a minute."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.2)
    raise DemoFailed(f"waited in vain for {what}; see the logs in {FOLDER}")


def say(text: str) -> None:
    """A line for the user."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
