"""People at the web console: a real Chromium, the built pages, a real Master over HTTPS."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from tenantry.protocol.messages import Severity
from tenantry.v1 import (
    access_pb2,
    group_service_pb2,
    role_service_pb2,
    tenant_pb2,
    tenant_service_pb2,
    user_service_pb2,
)
from tests.servers.alerting import active_tenant, new_tenant, own_alert, send_alerts
from tests.servers.chromium import find_chromium, running_chromium
from tests.servers.deadlines import PATIENCE_S, eventually
from tests.servers.master import MasterProcess, running_master
from tests.servers.node import Node, find_node
from tests.servers.openid_provider import OpenIdServer, running_openid_server
from tests.servers.operating import call
from tests.servers.people import grant, revoke
from tests.servers.signing_in import PASSWORD, Person, code_at, new_user, sign_in, with_second_factor
from tests.servers.wire_tenant import open_link
from tests.tooling.console import build_console

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

expect.set_options(timeout=PATIENCE_S * 1000)
ROWS = ".rows [role=row]"
COOKIE = "__Host-tenantry"


@pytest.fixture(scope="module")
def node() -> Node:
    """What builds the console and runs the provider."""
    found = find_node()
    assert found is not None, "the environment has no Node"
    return found


@pytest.fixture(scope="module")
def provider(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenIdServer]:
    """A provider where ada belongs to the administrators."""
    with running_openid_server(node, tmp_path_factory.mktemp("provider"), {"ada": ["tenantry-admins"]}) as running:
        yield running


@pytest.fixture(scope="module")
def master(node: Node, provider: OpenIdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MasterProcess]:
    """A Master with the console, whose people have passwords here or sign in there."""
    build_console(node)
    settings = (
        "console_listen=127.0.0.1:0",
        f"openid.issuer={provider.issuer}",
        "openid.client_id=tenantry-console",
        "openid.scopes=openid profile email groups",
    )
    with running_master(tmp_path_factory.mktemp("master"), *settings) as running:
        provider.admit_console(f"https://{running.console_address}/signed-in")
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium, and `make programs` could not install one")
    async with running_chromium(program) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A person's browser, without cookies; it knows the Master's authority no more than a new one does."""
    made = await browser.new_context(ignore_https_errors=True)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A tab of it, in which no script may fail and nothing may offend the policy."""
    made = await context.new_page()
    troubles: list[str] = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    made.on("console", lambda said: troubles.append(said.text) if "Security Policy" in said.text else None)
    yield made
    assert troubles == []


def address(master: MasterProcess, path: str = "/") -> str:
    """A place of the console."""
    return f"https://{master.console_address}{path}"


async def administrator(master: MasterProcess) -> str:
    """A new user who may do everything, with the password of all tests; the name."""
    name = await new_user(master)
    await grant(master, name, "GENERAL_ADMINISTRATOR", "main")
    return name


async def add_tenant(master: MasterProcess, name: str, instance: str = "main") -> str:
    """A new Tenant; its GUID."""
    wanted = tenant_pb2.Tenant(tenant_name=name, instance_name=instance)
    made = await call(master, "TenantService", "CreateTenant", tenant_service_pb2.CreateTenantRequest(tenant=wanted))
    return str(made.tenant.guid)


async def type_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Fill in and send the form of the page where one signs in."""
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()


async def enter(page: Page, master: MasterProcess, name: str, path: str = "/") -> None:
    """Sign in, from the place where one wants to go to that place."""
    await page.goto(address(master, path))
    await type_in(page, name)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def token_of(context: BrowserContext) -> str:
    """The session's token, which only the browser itself can read."""
    return next(str(one.get("value")) for one in await context.cookies() if one.get("name") == COOKIE)


async def has_no_cookie(context: BrowserContext) -> bool:
    """Whether the browser has forgotten its session."""
    return all(one.get("name") != COOKIE for one in await context.cookies())


async def test_a_person_signs_in_and_watches_tenants(
    master: MasterProcess, page: Page, context: BrowserContext
) -> None:
    """A wrong password is refused with what helps; the right one opens the list, where a new Tenant appears by itself."""
    name = await administrator(master)
    await page.goto(address(master))
    await type_in(page, name, "wrong, wrong, wrong")
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("The Master refuses this name, password or code.")
    await expect(alert).to_contain_text("tenantry user set-password")
    await type_in(page, name)
    await expect(page).to_have_url(address(master, "/tenants"))
    await expect(page.get_by_role("heading", name="Tenants")).to_be_visible()
    await add_tenant(master, "Corner Bakery", "Till 1")
    row = page.locator(ROWS, has_text="Corner Bakery")
    await expect(row).to_contain_text("Till 1")
    await expect(row).to_contain_text("Unregistered")
    cookie, proof = sorted(await context.cookies(), key=lambda one: str(one.get("name")))
    assert (cookie.get("name"), proof.get("name")) == (COOKIE, f"{COOKIE}-proof")
    assert proof.get("secure") is True and proof.get("httpOnly") is True
    assert cookie.get("secure") is True and cookie.get("httpOnly") is True
    assert (cookie.get("sameSite"), cookie.get("path"), cookie.get("domain")) == ("Strict", "/", "127.0.0.1")
    assert await page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"


async def test_the_second_factor_is_asked_for(master: MasterProcess, page: Page, context: BrowserContext) -> None:
    """After the password; a code of the authenticator opens, and so does a recovery code, once, with a word about what is left."""
    name = await new_user(master)
    authenticator, recovery_codes = await with_second_factor(await sign_in(master, name))
    await page.goto(address(master))
    await type_in(page, name)
    code = page.get_by_label("Code of the second factor")
    await expect(code).to_be_focused()
    await expect(page.get_by_role("alert")).to_have_count(0)
    await code.fill(code_at(authenticator, 1))
    await code.press("Enter")
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    await context.clear_cookies()
    await page.goto(address(master))
    await type_in(page, name)
    await code.fill(recovery_codes[0])
    await code.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("You have 9 left.")
    await page.get_by_role("button", name="Go on").click()
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_a_second_factor_is_set_up_and_taken_away(master: MasterProcess, page: Page) -> None:
    """From the account page: the secret and the recovery codes are shown once, and a code is needed to be without again."""
    name = await new_user(master)
    await enter(page, master, name, "/account")
    await page.get_by_role("link", name="Set up").click()
    authenticator, codes = await set_up_second_factor(page)
    assert len(codes) == 10
    await expect(page).to_have_url(address(master, "/account"))
    await expect(page.get_by_text("in force, 10 recovery codes left")).to_be_visible()
    await page.get_by_role("link", name="Take away").click()
    field = page.get_by_label("Code, or a recovery code")
    await field.fill("000000")
    await field.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("The Master refuses this name, password or code.")
    await field.fill(code_at(authenticator, 1))
    await field.press("Enter")
    await expect(page.get_by_role("link", name="Set up")).to_be_visible()


async def test_a_master_that_requires_a_second_factor_has_it_set_up_first(
    node: Node, browser: Browser, tmp_path: Path
) -> None:
    """Whoever comes with a password alone is led there, then to signing in with a code, and from there to the place wanted."""
    build_console(node)
    with running_master(tmp_path / "strict", "console_listen=127.0.0.1:0", "second_factor_required=true") as strict:
        name = await administrator(strict)
        page = await browser.new_page(ignore_https_errors=True)
        await page.goto(address(strict, "/account"))
        await type_in(page, name)
        await expect(page.get_by_text("This Master requires a second factor.")).to_be_visible()
        authenticator, _ = await set_up_second_factor(page)
        await expect(page.get_by_role("status")).to_have_text("The second factor is in force. Sign in with a code.")
        await type_in(page, name)
        code = page.get_by_label("Code of the second factor")
        await code.fill(code_at(authenticator, 1))
        await code.press("Enter")
        await expect(page).to_have_url(address(strict, "/account"))
        await expect(page.get_by_role("listitem")).to_have_text("General administrator, on this Master")
        await page.close()


async def set_up_second_factor(page: Page) -> tuple[pyotp.TOTP, list[str]]:
    """Go through the steps of its page with an authenticator; that, and the recovery codes."""
    await page.get_by_label("Your password").fill(PASSWORD)
    await page.get_by_role("button", name="Begin").click()
    await expect(page.get_by_role("img", name="The secret as a QR code")).to_be_visible()
    authenticator = pyotp.TOTP(await page.locator("code.secret").inner_text())
    await page.get_by_label("Code that the authenticator shows").fill(authenticator.now())
    await page.get_by_role("button", name="Put in force").click()
    codes = page.get_by_role("list", name="Recovery codes").get_by_role("listitem")
    await expect(codes).to_have_count(10)
    shown = await codes.all_inner_texts()
    await page.get_by_role("button", name="I have kept them").click()
    return authenticator, shown


async def test_the_place_is_kept(master: MasterProcess, page: Page, context: BrowserContext) -> None:
    """Whoever has to sign in first comes to where the way led, and nowhere else, whatever the address says."""
    name = await administrator(master)
    guid = await add_tenant(master, "Kept Place")
    await enter(page, master, name, f"/tenants/{guid}")
    await expect(page).to_have_url(address(master, f"/tenants/{guid}"))
    await expect(page.get_by_role("heading", name="Kept Place / main")).to_be_visible()
    for elsewhere in ("//evil.example/", "https://evil.example/"):
        await context.clear_cookies()
        await page.goto(address(master, f"/sign-in?to={elsewhere}"))
        await type_in(page, name)
        await expect(page).to_have_url(address(master, "/tenants"))


async def test_signing_out_ends_the_session(master: MasterProcess, page: Page, context: BrowserContext) -> None:
    """The cookie is gone, the token opens nothing, and the way back leads to the page where one signs in."""
    await enter(page, master, await administrator(master))
    token = await token_of(context)
    assert await can_call(master, token)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("status")).to_have_text("You are signed out.")
    await eventually(partial(has_no_cookie, context), "the cookie to be gone")
    assert not await can_call(master, token)
    await page.go_back()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_a_session_that_is_ended_elsewhere(master: MasterProcess, page: Page, context: BrowserContext) -> None:
    """Ended from the account page of another browser, an open page leads to signing in at once, and from there back."""
    name = await administrator(master)
    await enter(page, master, name)
    await expect(page.get_by_role("heading", name="Tenants")).to_be_visible()
    other = await sign_in(master, name)
    made = await context.browser.new_context(ignore_https_errors=True) if context.browser else None
    assert made is not None
    await made.add_cookies([{"name": COOKIE, "value": other.token, "url": address(master), "secure": True}])
    elsewhere = await made.new_page()
    await elsewhere.goto(address(master, "/account"))
    await expect(elsewhere.get_by_role("listitem")).to_have_text("General administrator, on this Master")
    await page.goto(address(master, "/tenants?q=bakery"))
    await elsewhere.get_by_role("button", name="End session").click()
    await expect(elsewhere.get_by_role("status")).to_contain_text("is ended")
    await expect(page.get_by_role("status")).to_contain_text("Your session has ended.")
    await eventually(partial(has_no_cookie, context), "the cookie to be gone")
    await type_in(page, name)
    await expect(page).to_have_url(address(master, "/tenants?q=bakery"))
    await expect(page.get_by_label("Search")).to_have_value("bakery")
    await made.close()


async def test_a_role_that_is_withdrawn_ends_what_is_open(master: MasterProcess, page: Page) -> None:
    """What may be seen no more is gone from the page, which says why; who may see a part again sees that part."""
    seen, hidden = await add_tenant(master, "Still Seen"), await add_tenant(master, "Hidden Away")
    name = await new_user(master)
    for guid in (seen, hidden):
        await grant(master, name, "JUNIOR_ANALYST", guid)
    await enter(page, master, name)
    await expect(page.locator(ROWS)).to_have_count(2)
    await revoke(master, name, "JUNIOR_ANALYST", hidden)
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.locator(ROWS)).to_contain_text("Still Seen")
    await revoke(master, name, "JUNIOR_ANALYST", seen)
    await expect(page.get_by_role("alert")).to_contain_text("tenant.read")
    await expect(page.locator(ROWS)).to_have_count(0)


async def test_a_person_comes_back_from_the_openid_provider(
    master: MasterProcess, provider: OpenIdServer, page: Page, context: BrowserContext
) -> None:
    """Through the provider's own pages to the place where the way led, with a Strict cookie and no code left in the address."""
    group = group_service_pb2.Group(name="administrators", external="tenantry-admins")
    await call(master, "GroupService", "CreateGroup", group_service_pb2.CreateGroupRequest(group=group))
    binding = role_service_pb2.GrantRoleRequest(
        owner="main",
        subject=role_service_pb2.Subject(group="administrators"),
        role=access_pb2.ROLE_GENERAL_ADMINISTRATOR,
    )
    await call(master, "RoleService", "GrantRole", binding)
    await page.goto(address(master, "/account"))
    await page.get_by_role("button", name=f"Sign in with {urlsplit(provider.issuer).netloc}").click()
    await page.locator("input[name=login]").fill("ada")
    await page.locator("input[name=password]").fill("any")
    await page.locator("button[type=submit]").click()
    await page.locator("button[type=submit]").click()
    await expect(page).to_have_url(address(master, "/account"))
    await expect(page.get_by_role("listitem")).to_contain_text(
        "General administrator, on this Master (group administrators)"
    )
    (cookie,) = [one for one in await context.cookies() if one.get("name") == COOKIE]
    assert cookie.get("sameSite") == "Strict"
    assert await page.evaluate("JSON.stringify({...sessionStorage})") == "{}"


async def test_a_sign_in_that_somebody_else_began_is_refused(master: MasterProcess, page: Page) -> None:
    """A link with a code and a state of somebody else's signs nobody in."""
    await page.goto(address(master, "/signed-in?code=stolen&state=other"))
    await expect(page.get_by_role("alert")).to_contain_text("This tab has not begun this sign-in.")
    await expect(page).to_have_url(address(master, "/signed-in"))
    await page.get_by_role("link", name="Try again").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


async def test_many_tenants_are_a_window_that_keys_move(master: MasterProcess, page: Page) -> None:
    """Only the rows in sight are in the document; the keys reach the last one, and Enter opens it; the search finds one of all."""
    names = [f"Many-{number:03}" for number in range(120)]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(add_tenant(master, name))
    person = await administrator(master)
    await enter(page, master, person, "/tenants?q=many")
    table = page.get_by_role("table", name="Tenants")
    await expect(table).to_have_attribute("aria-rowcount", "121")
    assert await page.locator(ROWS).count() < 60
    await page.get_by_role("link", name="Many-000").focus()
    await page.keyboard.press("ArrowDown")
    await expect(page.get_by_role("link", name="Many-001")).to_be_focused()
    await page.keyboard.press("End")
    await expect(page.get_by_role("link", name="Many-119")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Many-119 / main")).to_be_visible()
    await expect(page.get_by_role("main")).to_be_focused()
    await page.go_back()
    await expect(page.get_by_label("Search")).to_have_value("many")
    await page.get_by_label("Search").fill("many-042")
    await expect(page.get_by_role("status")).to_contain_text("1 of ")
    await expect(page.locator(ROWS)).to_contain_text("Many-042")


async def test_alerts_are_seen_and_resolved(master: MasterProcess, page: Page) -> None:
    """They come while the page is open, the worst first; one is acknowledged and resolved from here, and is gone."""
    name, tenant = await administrator(master), await new_tenant(master, "Alarming")
    await enter(page, master, name, "/alerts")
    rows = page.locator("tbody tr")
    await expect(page.get_by_role("status")).to_have_text("0 open, 0 new, 0 over")
    async with open_link(master, tenant.identity) as link:
        await active_tenant(master, link, tenant)
        await send_alerts(link, tenant, [own_alert("mild", severity=Severity.LOW), own_alert("bad <b>rule</b>")])
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text("bad <b>rule</b>")
        await rows.first.get_by_role("button", name="Acknowledge").click()
        await expect(rows.first).to_contain_text("Acknowledged")
        await expect(rows.first.get_by_role("button", name="Acknowledge")).to_have_count(0)
        await send_alerts(link, tenant, [own_alert("mild", severity=Severity.LOW, firing=False)])
        await expect(rows.nth(1)).to_contain_text("over")
        await page.get_by_role("button", name="Resolve mild of Alarming").click()
        await expect(rows).to_have_count(1)
    await page.get_by_role("link", name="Alarming / main").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Alarming")


async def can_call(master: MasterProcess, token: str) -> bool:
    """Whether a token opens anything."""
    try:
        await Person(master, token).call("UserService.GetUser", user_service_pb2.GetUserRequest())
    except grpc.aio.AioRpcError:
        return False
    return True
