// All Tenants, live. Of ten thousand rows only those in sight are in the document.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { Connectivity, type Tenant, TenantState } from "../generated/tenantry/v1/tenant_pb";
import { ConnectivityBadge, Heading, Link, StateBadge, TroubleBox } from "../parts";
import { type Place, START, go } from "../routing";
import { ago, useNow } from "../times";
import { useTenants } from "../watching";
import { connectivityWord, stateWord } from "../words";

/** In pixels; `.rows > [role=row]` in style.css has the same. */
const ROW = 44;
const SPARE = 8;
/** Ten thousand Tenants that are heard every few seconds would keep the Master busy for each page that is open. */
const FIGURES_MS = 15_000;
const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const COLUMNS = ["Tenant", "Instance", "State", "Connectivity", "Last heard"];

export function TenantsPage({ place }: { place: Place }) {
  const { tenants, complete, trouble } = useTenants("{}", FIGURES_MS);
  const [text, setText] = useState(place.query.get("q") ?? "");
  const before = useRef<readonly Tenant[]>([]);
  const sorted = useMemo(() => (before.current = sort(tenants, before.current)), [tenants]);
  const found = useMemo(() => search(sorted, text), [sorted, text]);

  function look(wanted: string): void {
    setText(wanted);
    // In the address, so that it is there again when one comes back or sends the address on.
    go(wanted === "" ? START : `${START}?q=${encodeURIComponent(wanted)}`, { replace: true });
  }

  return (
    <div class="full">
      <Heading>Tenants</Heading>
      {trouble === undefined ? null : <TroubleBox trouble={trouble} />}
      <div class="tools">
        <label for="search">Search</label>
        <input
          id="search"
          type="search"
          autocomplete="off"
          spellcheck={false}
          placeholder="name, instance, state, connectivity, tag, GUID"
          value={text}
          onInput={(event) => look(event.currentTarget.value)}
        />
        <p role="status">{complete ? summary(found, sorted.length) : "Loading …"}</p>
      </div>
      {complete && sorted.length === 0 && trouble === undefined ? (
        <p>
          There is no Tenant that you may see. <code>tenantry tenant create</code> registers one.
        </p>
      ) : (
        <Rows tenants={found} />
      )}
    </div>
  );
}

function Rows({ tenants }: { tenants: readonly Tenant[] }) {
  const body = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [chosen, setChosen] = useState(0);
  const [focusing, setFocusing] = useState(false);
  const now = useNow();

  useEffect(() => {
    const element = body.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const current = Math.min(chosen, Math.max(0, tenants.length - 1));
  useEffect(() => {
    if (!focusing) return;
    setFocusing(false);
    body.current?.querySelector<HTMLElement>(`[aria-rowindex="${current + 2}"] a`)?.focus({ preventScroll: true });
  });

  const first = Math.max(0, Math.floor(top / ROW) - SPARE);
  const last = Math.min(tenants.length, Math.ceil((top + height) / ROW) + SPARE);

  function move(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(height / ROW) - 1);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    const element = body.current;
    if (step === undefined || element === null) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(tenants.length - 1, current + step));
    if (next * ROW < element.scrollTop) element.scrollTop = next * ROW;
    else if ((next + 1) * ROW > element.scrollTop + height) element.scrollTop = (next + 1) * ROW - height;
    setTop(element.scrollTop);
    setChosen(next);
    setFocusing(true);
  }

  return (
    <div class="tenants" role="table" aria-label="Tenants" aria-rowcount={tenants.length + 1}>
      <div role="rowgroup" class="head">
        <div role="row" aria-rowindex={1}>
          {COLUMNS.map((column) => (
            <span key={column} role="columnheader">
              {column}
            </span>
          ))}
        </div>
      </div>
      <div
        role="rowgroup"
        class="rows"
        ref={body}
        onScroll={(event) => setTop(event.currentTarget.scrollTop)}
        onKeyDown={move}
      >
        <div role="presentation" class="space" style={{ height: `${tenants.length * ROW}px` }}>
          {tenants.slice(first, last).map((tenant, index) => (
            <Row
              key={tenant.guid}
              tenant={tenant}
              place={first + index}
              now={now}
              inTabOrder={first + index === current}
              onFocus={setChosen}
            />
          ))}
        </div>
      </div>
    </div>
  );
}

interface RowProps {
  readonly tenant: Tenant;
  readonly place: number;
  readonly now: number;
  readonly inTabOrder: boolean;
  readonly onFocus: (place: number) => void;
}

function Row({ tenant, place, now, inTabOrder, onFocus }: RowProps) {
  return (
    <div
      role="row"
      aria-rowindex={place + 2}
      style={{ top: `${place * ROW}px` }}
      onFocusIn={() => onFocus(place)}
    >
      <span role="cell">
        <Link to={`${START}/${tenant.guid}`} tabIndex={inTabOrder ? 0 : -1}>
          {tenant.tenantName}
        </Link>
      </span>
      <span role="cell">{tenant.instanceName}</span>
      <span role="cell">
        <StateBadge state={tenant.state} />
      </span>
      <span role="cell">
        <ConnectivityBadge connectivity={tenant.connectivity} />
      </span>
      <span role="cell">{ago(tenant.lastHeartbeat, now)}</span>
    </div>
  );
}

/** By names. Figures change all the time and names hardly ever: as long as these are the same, so is the order. */
function sort(tenants: ReadonlyMap<string, Tenant>, before: readonly Tenant[]): readonly Tenant[] {
  if (tenants.size === before.length) {
    const again: Tenant[] = [];
    for (const known of before) {
      const tenant = tenants.get(known.guid);
      if (tenant?.tenantName !== known.tenantName || tenant.instanceName !== known.instanceName) break;
      again.push(tenant);
    }
    if (again.length === before.length) return again;
  }
  return [...tenants.values()].sort(byNames);
}

function byNames(one: Tenant, other: Tenant): number {
  return COLLATOR.compare(one.tenantName, other.tenantName) || COLLATOR.compare(one.instanceName, other.instanceName);
}

/** Those in which every word occurs somewhere. */
function search(tenants: readonly Tenant[], text: string): readonly Tenant[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return tenants;
  return tenants.filter((tenant) => {
    const all = textOf(tenant);
    return words.every((word) => all.includes(word));
  });
}

const texts = new WeakMap<Tenant, string>();

/** Everything of a Tenant that a search looks at; a Tenant that changes is another object. */
function textOf(tenant: Tenant): string {
  let text = texts.get(tenant);
  if (text === undefined) {
    const { tenantName, instanceName, guid, hostName, tags } = tenant;
    const words = [tenantName, instanceName, stateWord(tenant.state), connectivityWord(tenant.connectivity), guid, hostName, ...tags];
    text = words.join("\n").toLowerCase();
    texts.set(tenant, text);
  }
  return text;
}

function summary(found: readonly Tenant[], all: number): string {
  const alert = found.filter((tenant) => tenant.state === TenantState.ALERT).length;
  const away = found.filter((tenant) => [Connectivity.STALE, Connectivity.LOST].includes(tenant.connectivity)).length;
  const shown = [found.length, all, alert, away].map((count) => count.toLocaleString());
  const count = found.length === all ? shown[1] : `${shown[0]} of ${shown[1]}`;
  return `${count} ${all === 1 ? "Tenant" : "Tenants"}, ${shown[2]} in Alert, ${shown[3]} stale or lost`;
}
