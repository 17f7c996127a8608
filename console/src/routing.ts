// Which page is shown: the path of the address. Going somewhere never loads another page, and never leaves this console.
import { useEffect, useState } from "preact/hooks";

export interface Place {
  readonly path: string;
  readonly query: URLSearchParams;
}

export const START = "/tenants";
export const ALERTS = "/alerts";
export const ACCOUNT = "/account";
export const SECOND_FACTOR = "/account/second-factor";
export const SIGN_IN = "/sign-in";
export const SIGNED_IN = "/signed-in";

let place: Place = read();
const listeners = new Set<() => void>();

/** Show another page of the console. */
export function go(target: string, { replace = false } = {}): void {
  const inside = within(target);
  if (replace) history.replaceState(null, "", inside);
  else history.pushState(null, "", inside);
  tell();
}

/** Go to the page where one signs in, and remember the place. `why`: "ended" for a session that is over, "out" for who signed out. */
export function leave(reason: "ended" | "out"): void {
  if (place.path === SIGN_IN || place.path === SIGNED_IN) return;
  // What is open ends before the answer to signing out has come.
  const why = signingOut ? "out" : reason;
  const query = new URLSearchParams();
  const from = `${place.path}${location.search}`;
  if (why !== "out" && from !== START && from !== "/") query.set("to", from);
  if (why === "out" || entered) query.set("why", why);
  entered = false;
  const rest = query.toString();
  go(rest === "" ? SIGN_IN : `${SIGN_IN}?${rest}`, { replace: why !== "out" });
}

let entered = false;
let signingOut = false;

/** From here on, and until it has failed, the end of the session is what the user wants. */
export function noteSigningOut(begun: boolean): void {
  signingOut = begun;
}

/** Somebody is signed in: from now on the end of the session is worth a word. */
export function noteEntered(): void {
  entered = true;
  signingOut = false;
}

/** Where to go after signing in: a place of this console, whatever the address says. */
export function wanted(query: URLSearchParams): string {
  const target = within(query.get("to") ?? START);
  return target.startsWith(SIGN_IN) || target.startsWith(SIGNED_IN) || target === "/" ? START : target;
}

/** The place, and another rendering whenever it changes. */
export function usePlace(): Place {
  const [shown, show] = useState(place);
  useEffect(() => {
    const listener = (): void => show(place);
    listener();
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return shown;
}

function within(target: string): string {
  try {
    const url = new URL(target, location.origin);
    return url.origin === location.origin && target.startsWith("/") ? `${url.pathname}${url.search}` : START;
  } catch {
    return START;
  }
}

function read(): Place {
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

function tell(): void {
  place = read();
  for (const listener of listeners) listener();
}

addEventListener("popstate", tell);
