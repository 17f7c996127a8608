// Where the OpenID provider sends the browser back to.
import { useEffect, useState } from "preact/hooks";

import { openId } from "../contract";
import { type Trouble, ownTrouble, troubleOf } from "../failures";
import { takeBegun } from "../openId";
import { Heading, Link, TroubleBox } from "../parts";
import { type Place, SIGNED_IN, SIGN_IN, go } from "../routing";

export function SignedInPage({ place }: { place: Place }) {
  const [trouble, setTrouble] = useState<Trouble>();
  useEffect(() => {
    // The code is worth something for a moment: it does not stay in the address, nor in the history.
    history.replaceState(null, "", SIGNED_IN);
    finish(place.query).then(
      (target) => go(target, { replace: true }),
      (error: unknown) => setTrouble(error instanceof Unfinished ? error.trouble : troubleOf(error)),
    );
  }, []);
  return (
    <main class="narrow">
      <Heading>{trouble === undefined ? "Signing in …" : "Not signed in"}</Heading>
      {trouble === undefined ? null : (
        <>
          <TroubleBox trouble={trouble} />
          <p>
            <Link to={SIGN_IN}>Try again</Link>
          </p>
        </>
      )}
    </main>
  );
}

class Unfinished extends Error {
  constructor(readonly trouble: Trouble) {
    super(trouble.message);
  }
}

async function finish(query: URLSearchParams): Promise<string> {
  const begun = takeBegun();
  const refusal = query.get("error");
  if (refusal !== null) {
    const said = query.get("error_description") ?? refusal;
    throw new Unfinished(ownTrouble(`The provider has not signed you in: ${said}`, "Try again, or sign in with a password."));
  }
  const code = query.get("code");
  if (begun === undefined || code === null || query.get("state") !== begun.state) {
    throw new Unfinished(
      ownTrouble("This tab has not begun this sign-in.", "Begin it here: a link that somebody sent you could sign you in as somebody else."),
    );
  }
  await openId.finishSignIn({ secret: begun.secret, state: begun.state, code });
  return begun.target;
}
