// What several pages are made of.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";

import type { Trouble } from "./failures";
import { Connectivity, TenantState } from "./generated/tenantry/v1/tenant_pb";
import { go } from "./routing";
import { connectivityWord, stateWord } from "./words";

interface LinkProps {
  readonly to: string;
  readonly current?: boolean;
  readonly tabIndex?: number;
  readonly children: ComponentChildren;
}

/** A link to another page of the console, which a browser can also open in a tab of its own. */
export function Link({ to, current = false, tabIndex = 0, children }: LinkProps) {
  const follow = (event: MouseEvent): void => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return (
    <a href={to} onClick={follow} tabIndex={tabIndex} {...(current ? { "aria-current": "page" as const } : {})}>
      {children}
    </a>
  );
}

/** What went wrong and what helps, said at once to who listens. */
export function TroubleBox({ trouble }: { trouble: Trouble }) {
  return (
    <div class="trouble" role="alert">
      <p>{trouble.message}</p>
      {trouble.hint === "" ? null : (
        <p class="hint">{trouble.hint.split("`").map((part, index) => (index % 2 === 1 ? <code>{part}</code> : part))}</p>
      )}
    </div>
  );
}

/** The heading of a page, which is also the title of the window. */
export function Heading({ children }: { children: string }) {
  useEffect(() => {
    document.title = `${children} – Tenantry`;
  }, [children]);
  return <h1>{children}</h1>;
}

export function StateBadge({ state }: { state: TenantState }) {
  return <span class={`badge state-${TenantState[state].toLowerCase()}`}>{stateWord(state)}</span>;
}

// Shapes beside the colours, for who does not see the difference.
const SIGNS: Partial<Record<Connectivity, string>> = {
  [Connectivity.CONNECTED]: "●",
  [Connectivity.STALE]: "◐",
  [Connectivity.LOST]: "✕",
  [Connectivity.LEFT]: "◌",
};

export function ConnectivityBadge({ connectivity }: { connectivity: Connectivity }) {
  return (
    <span class={`link-${Connectivity[connectivity].toLowerCase()}`}>
      <span class="sign" aria-hidden="true">
        {SIGNS[connectivity] ?? "○"}
      </span>
      <span class="word">{connectivityWord(connectivity)}</span>
    </span>
  );
}

/** Pairs of a name and a value; those without a value are left out. */
export function Facts({ children }: { children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  if (children === undefined || children === null || children === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
