// The console: finds out who is signed in, and shows the page of the address.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { roles, sessions } from "./contract";
import { type Trouble, isSessionOver, troubleOf } from "./failures";
import { Link, TroubleBox } from "./parts";
import { AccountPage } from "./pages/account";
import { AlertsPage } from "./pages/alerts";
import { SecondFactorPage } from "./pages/secondFactor";
import { SignInPage } from "./pages/signIn";
import { SignedInPage } from "./pages/signedIn";
import { TenantPage } from "./pages/tenant";
import { TenantsPage } from "./pages/tenants";
import { ACCOUNT, ALERTS, type Place, SECOND_FACTOR, SIGNED_IN, SIGN_IN, START, go, leave, noteEntered, noteSigningOut, usePlace } from "./routing";

function App() {
  const place = usePlace();
  if (place.path === SIGN_IN) return <SignInPage place={place} />;
  if (place.path === SIGNED_IN) return <SignedInPage place={place} />;
  return <Inside place={place} />;
}

/** The pages for who is signed in. */
function Inside({ place }: { place: Place }) {
  const [user, setUser] = useState("");
  const [trouble, setTrouble] = useState<Trouble>();
  useEffect(() => {
    const ending = new AbortController();
    roles.whoAmI({}, { signal: ending.signal }).then(
      (known) => {
        noteEntered();
        setUser(known.user);
      },
      (error: unknown) => {
        if (!ending.signal.aborted && !isSessionOver(error)) setTrouble(troubleOf(error));
      },
    );
    return () => ending.abort();
  }, []);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    // Who reads by ear or by key is taken along to the new page, but not away from the address bar at the first.
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [place.path]);
  if (user === "") return <main class="narrow">{trouble === undefined ? null : <TroubleBox trouble={trouble} />}</main>;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to content
      </a>
      <header class="bar">
        <span class="brand">Tenantry</span>
        <nav aria-label="Pages">
          <Link to={START} current={place.path === START || place.path.startsWith(`${START}/`)}>
            Tenants
          </Link>
          <Link to={ALERTS} current={place.path === ALERTS}>
            Alerts
          </Link>
          <Link to={ACCOUNT} current={place.path.startsWith(ACCOUNT)}>
            Account
          </Link>
        </nav>
        <span class="user">{user}</span>
        <button type="button" onClick={() => void signOut()}>
          Sign out
        </button>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Page place={place} />
      </main>
    </>
  );
}

function Page({ place }: { place: Place }) {
  if (place.path === ACCOUNT) return <AccountPage />;
  if (place.path === SECOND_FACTOR) return <SecondFactorPage place={place} />;
  if (place.path === ALERTS) return <AlertsPage />;
  if (place.path === START) return <TenantsPage place={place} />;
  const guid = place.path.match(/^\/tenants\/([0-9a-f-]{36})$/)?.[1];
  if (guid !== undefined) return <TenantPage key={guid} guid={guid} />;
  if (place.path === "/") go(START, { replace: true });
  return (
    <>
      <h1>There is no such page</h1>
      <p>
        <Link to={START}>To the Tenants</Link>
      </p>
    </>
  );
}

async function signOut(): Promise<void> {
  noteSigningOut(true);
  try {
    await sessions.signOut({});
  } catch (error) {
    // Where the session is over already, that is what was wanted; otherwise the cookie is still there, and so is the user.
    if (!isSessionOver(error)) {
      noteSigningOut(false);
      alert(troubleOf(error).message);
      return;
    }
  }
  leave("out");
}

const root = document.getElementById("console");
if (root !== null) render(<App />, root);
