// Tenants as they are now: one open call, begun again whenever it ends, told to the page a few times a second at most.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "preact/hooks";

import { tenants } from "./contract";
import { type Trouble, isSessionOver, troubleOf } from "./failures";
import { Connectivity, type Tenant } from "./generated/tenantry/v1/tenant_pb";
import type { TenantFilterSchema } from "./generated/tenantry/v1/tenant_service_pb";
import { leave } from "./routing";

const TELL_MS = 200;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
/** The longest that a Tenant which is connected can be silent, and some more: after that it is the connection that is dead. */
const SILENCE_MS = 330_000;
const LOOK_MS = 15_000;
/** What the Master says when another call would fare the same. */
const LASTING = ["NOT_ALLOWED", "FIELD_INVALID"];

export interface Watched {
  readonly tenants: ReadonlyMap<string, Tenant>;
  /** Whether all that is there has come once. */
  readonly complete: boolean;
  /** Why nothing comes at the moment. */
  readonly trouble: Trouble | undefined;
}

const NOTHING: Watched = { tenants: new Map(), complete: false, trouble: undefined };

/**
 * Follow the Tenants that match, for as long as the page is open. `filter` is JSON, so that equal filters are one. States are told at
 * once; figures, such as when a Tenant was last heard, every `figuresMs`.
 */
export function useTenants(filter: string, figuresMs: number): Watched {
  const [watched, setWatched] = useState(NOTHING);
  useEffect(() => {
    const ending = new AbortController();
    setWatched(NOTHING);
    void follow(JSON.parse(filter) as MessageInitShape<typeof TenantFilterSchema>, figuresMs, ending.signal, setWatched);
    return () => ending.abort();
  }, [filter, figuresMs]);
  return watched;
}

async function follow(
  filter: MessageInitShape<typeof TenantFilterSchema>,
  figuresMs: number,
  signal: AbortSignal,
  tell: (watched: Watched) => void,
): Promise<void> {
  let shown: ReadonlyMap<string, Tenant> = new Map();
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    // Those of before stay on the page until the new ones are complete.
    const known = new Map<string, Tenant>();
    let complete = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = (): void => {
      timer = undefined;
      if (signal.aborted) return;
      if (complete || shown.size === 0) shown = known;
      tell({ tenants: new Map(shown), complete, trouble: undefined });
    };
    let trouble: Trouble | undefined;
    let heardMs = Date.now();
    const dead = new AbortController();
    const look = setInterval(() => {
      const alive = [...known.values()].some((tenant) => tenant.connectivity === Connectivity.CONNECTED);
      if (alive && Date.now() - heardMs > SILENCE_MS) dead.abort();
    }, LOOK_MS);
    try {
      const request = { filter, interval: durationFromMs(figuresMs) };
      for await (const { event } of tenants.watchTenants(request, { signal: AbortSignal.any([signal, dead.signal]) })) {
        heardMs = Date.now();
        if (event.case === "tenant") known.set(event.value.guid, event.value);
        else if (event.case === "gone") known.delete(event.value);
        else if (event.case === "synchronised") {
          complete = true;
          pause = FIRST_PAUSE_MS;
          clearTimeout(timer);
          show();
          continue;
        }
        timer ??= setTimeout(show, TELL_MS);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isSessionOver(error)) {
        leave("ended");
        return;
      }
      trouble = troubleOf(error);
    } finally {
      clearTimeout(timer);
      clearInterval(look);
    }
    if (trouble !== undefined && LASTING.includes(trouble.reason)) {
      tell({ tenants: new Map(), complete: true, trouble });
      return;
    }
    if (trouble !== undefined) tell({ tenants: shown, complete: shown.size > 0, trouble });
    await rest(pause * (0.75 + Math.random() / 2), signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
