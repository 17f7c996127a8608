// Signing in: name and password, then a code where one is needed; or by way of the OpenID provider.
import { useEffect, useRef, useState } from "preact/hooks";

import { openId, roles, sessions } from "../contract";
import { type Trouble, troubleOf } from "../failures";
import { beginOpenId, openIdIssuer } from "../openId";
import { Heading, TroubleBox } from "../parts";
import { type Place, SECOND_FACTOR, go, wanted } from "../routing";

const WHY: Record<string, string> = {
  ended: "Your session has ended. Sign in again, and you are back where you were.",
  out: "You are signed out.",
  enrolled: "The second factor is in force. Sign in with a code.",
};

export function SignInPage({ place }: { place: Place }) {
  const target = wanted(place.query);
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [codeNeeded, setCodeNeeded] = useState(false);
  const [codesLeft, setCodesLeft] = useState<number>();
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<Trouble>();
  const [issuer, setIssuer] = useState<string>();
  const codeField = useRef<HTMLInputElement>(null);
  const nameField = useRef<HTMLInputElement>(null);

  useEffect(() => {
    const ending = new AbortController();
    // Who is signed in already goes on; where the session is over, the answer takes the cookie away.
    roles.whoAmI({}, { signal: ending.signal }).then(
      () => go(target, { replace: true }),
      () => undefined,
    );
    openIdIssuer().then((known) => ending.signal.aborted || setIssuer(known));
    nameField.current?.focus();
    return () => ending.abort();
  }, []);
  useEffect(() => {
    if (codeNeeded) codeField.current?.focus();
  }, [codeNeeded]);

  async function signIn(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setTrouble(undefined);
    try {
      const session = await sessions.signIn({ name, password, code: code.trim() });
      if (session.secondFactorMissing) go(`${SECOND_FACTOR}?to=${encodeURIComponent(target)}`, { replace: true });
      else if (session.recoveryCodesLeft === undefined) go(target, { replace: true });
      else setCodesLeft(session.recoveryCodesLeft);
    } catch (error) {
      const known = troubleOf(error);
      if (known.reason === "SECOND_FACTOR_REQUIRED") setCodeNeeded(true);
      else setTrouble(known);
    } finally {
      setBusy(false);
    }
  }

  async function signInElsewhere(): Promise<void> {
    setBusy(true);
    setTrouble(undefined);
    try {
      await beginOpenId(openId, target);
    } catch (error) {
      setTrouble(troubleOf(error));
      setBusy(false);
    }
  }

  if (codesLeft !== undefined) {
    return (
      <main class="narrow">
        <Heading>Signed in with a recovery code</Heading>
        <p role="status">
          {codesLeft === 0 ? "That was the last one." : `You have ${codesLeft} left.`} A code works once; new ones come with a new second
          factor.
        </p>
        <button type="button" class="main" onClick={() => go(target, { replace: true })}>
          Go on
        </button>
      </main>
    );
  }
  const why = WHY[place.query.get("why") ?? ""];
  return (
    <main class="narrow">
      <p class="brand">Tenantry</p>
      <Heading>Sign in</Heading>
      {why === undefined || trouble !== undefined ? null : <p role="status">{why}</p>}
      {trouble === undefined ? null : <TroubleBox trouble={trouble} />}
      <form onSubmit={(event) => void signIn(event)}>
        <label for="name">Name</label>
        <input
          id="name"
          ref={nameField}
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          value={name}
          onInput={(event) => setName(event.currentTarget.value)}
        />
        <label for="password">Password</label>
        <input
          id="password"
          type="password"
          autocomplete="current-password"
          required
          value={password}
          onInput={(event) => setPassword(event.currentTarget.value)}
        />
        {codeNeeded ? (
          <>
            <label for="code">Code of the second factor</label>
            <input
              id="code"
              ref={codeField}
              autocomplete="one-time-code"
              autocapitalize="none"
              spellcheck={false}
              required
              aria-describedby="code-hint"
              value={code}
              onInput={(event) => setCode(event.currentTarget.value)}
            />
            <p id="code-hint" class="hint">
              The six digits that your authenticator shows, or one of your recovery codes.
            </p>
          </>
        ) : null}
        <button type="submit" class="main" disabled={busy}>
          Sign in
        </button>
      </form>
      {issuer === undefined ? null : (
        <button type="button" disabled={busy} onClick={() => void signInElsewhere()}>
          Sign in with {new URL(issuer).host}
        </button>
      )}
    </main>
  );
}
