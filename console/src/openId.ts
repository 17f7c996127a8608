// The way to the OpenID provider and back. What belongs to it is kept in this tab alone, and for this one sign-in.
import type { Client } from "@connectrpc/connect";

import type { OpenIdService } from "./generated/tenantry/v1/openid_service_pb";
import { SIGNED_IN } from "./routing";

const KEY = "tenantry.openid";

interface Begun {
  readonly state: string;
  readonly secret: string;
  readonly target: string;
}

/** The provider's address, where the Master has one. */
export async function openIdIssuer(): Promise<string | undefined> {
  try {
    const settings = (await (await fetch("/console.json")).json()) as { openidIssuer: string | null };
    return settings.openidIssuer ?? undefined;
  } catch {
    return undefined;
  }
}

/** Leave for the provider; `target` is where to go afterwards. */
export async function beginOpenId(service: Client<typeof OpenIdService>, target: string): Promise<void> {
  const { authorizationUrl, state, secret } = await service.beginSignIn({ redirectUri: `${location.origin}${SIGNED_IN}` });
  sessionStorage.setItem(KEY, JSON.stringify({ state, secret, target } satisfies Begun));
  location.assign(authorizationUrl);
}

/** What this tab has begun; it can be taken once. */
export function takeBegun(): Begun | undefined {
  const kept = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  return kept === null ? undefined : (JSON.parse(kept) as Begun);
}
