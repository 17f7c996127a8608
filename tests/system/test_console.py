"""People at the web console: a real Chromium, the built pages, a real Master over HTTPS."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from tenantry.v1 import tenant_pb2, tenant_service_pb2
from tests.servers.chromium import find_chromium, running_chromium
from tests.servers.master import MasterProcess, running_master
from tests.servers.node import Node, find_node
from tests.servers.openid_provider import OpenIdServer, running_openid_server
from tests.servers.operating import call
from tests.servers.people import grant
from tests.servers.signing_in import PASSWORD, new_user
from tests.tooling.console import build_console

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

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
        "openid.scopes=openid profile email groups",
    )
    with running_master(tmp_path_factory.mktemp("master"), *settings) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """The machine's Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium, and `make browser` could not install one")
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
    (cookie,) = await context.cookies()
    assert cookie.get("name") == COOKIE
    assert cookie.get("secure") is True and cookie.get("httpOnly") is True
    assert (cookie.get("sameSite"), cookie.get("path"), cookie.get("domain")) == ("Strict", "/", "127.0.0.1")
    assert await page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
