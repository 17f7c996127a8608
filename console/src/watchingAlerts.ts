// Open alerts as they are now: one open call, gone on with from its last place whenever it ends.
import { useEffect, useState } from "preact/hooks";

import { alerts } from "./contract";
import { type Trouble, isSessionOver, troubleOf } from "./failures";
import type { Alert } from "./generated/tenantry/v1/alert_service_pb";
import { leave } from "./routing";

const TELL_MS = 200;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
/** What the Master says when another call would fare the same. */
const LASTING = ["NOT_ALLOWED", "FIELD_INVALID"];

export interface WatchedAlerts {
  readonly alerts: ReadonlyMap<string, Alert>;
  /** Whether all that is there has come once. */
  readonly complete: boolean;
  /** Why nothing comes at the moment. */
  readonly trouble: Trouble | undefined;
}

/** Follow the alerts that are not resolved, for as long as the page is open. */
export function useOpenAlerts(): WatchedAlerts {
  const [watched, setWatched] = useState<WatchedAlerts>({ alerts: new Map(), complete: false, trouble: undefined });
  useEffect(() => {
    const ending = new AbortController();
    void follow(ending.signal, setWatched);
    return () => ending.abort();
  }, []);
  return watched;
}

async function follow(signal: AbortSignal, tell: (watched: WatchedAlerts) => void): Promise<void> {
  const known = new Map<string, Alert>();
  let complete = false;
  let afterCursor = "";
  let pause = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let trouble: Trouble | undefined;
    const show = (): void => {
      timer = undefined;
      if (!signal.aborted) tell({ alerts: new Map(known), complete, trouble: undefined });
    };
    try {
      for await (const { event, cursor } of alerts.watchAlerts({ filter: { open: true }, afterCursor }, { signal })) {
        if (event.case === "alert") known.set(event.value.id, event.value);
        else if (event.case === "gone") known.delete(event.value);
        else if (event.case === "synchronised") {
          complete = true;
          pause = FIRST_PAUSE_MS;
        }
        // Until all is there a place in between says nothing of what was not sent yet.
        if (complete) afterCursor = cursor;
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
    }
    if (trouble !== undefined) {
      const lasting = LASTING.includes(trouble.reason);
      tell({ alerts: lasting ? new Map<string, Alert>() : new Map(known), complete: complete || lasting, trouble });
      if (lasting) return;
    }
    await new Promise((resolve) => {
      const rest = setTimeout(resolve, pause * (0.75 + Math.random() / 2));
      signal.addEventListener("abort", () => (clearTimeout(rest), resolve(undefined)), { once: true });
    });
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}
