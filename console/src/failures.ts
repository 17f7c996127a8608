// What went wrong, in the Master's words. Code branches on the reason, never on a text.
import { ConnectError } from "@connectrpc/connect";

import { ErrorInfoSchema } from "./generated/google/rpc/error_details_pb";
import { HINTS } from "./generated/hints";

export interface Trouble {
  /** As in docs/reference/failures.md; empty where the Master did not answer. */
  readonly reason: string;
  readonly message: string;
  readonly hint: string;
}

/** A sentence of the console's own about something that the Master was not asked for. */
export function ownTrouble(message: string, hint: string): Trouble {
  return { reason: "", message, hint };
}

/** What an error of a call says. */
export function troubleOf(error: unknown): Trouble {
  const failed = ConnectError.from(error);
  const info = failed.findDetails(ErrorInfoSchema)[0];
  if (info === undefined) {
    return ownTrouble(
      "The Master does not answer.",
      "It may be restarting, or the network is down. What is shown here is what was known last.",
    );
  }
  const hint = (HINTS[info.reason] ?? "").replace(/\{(\w+)\}/g, (_, name: string) => info.metadata[name] ?? "?");
  return { reason: info.reason, message: sentence(failed.rawMessage), hint };
}

/** Whether an error says that nobody is signed in here any more. */
export function isSessionOver(error: unknown): boolean {
  return ["NOT_SIGNED_IN", "SESSION_ENDED"].includes(troubleOf(error).reason);
}

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
