// Alerts that are not resolved, live, the worst first: seen, taken and resolved from here.
import { useMemo, useState } from "preact/hooks";

import { alerts } from "../contract";
import { type Trouble, troubleOf } from "../failures";
import { type Alert, AlertStatus } from "../generated/tenantry/v1/alert_service_pb";
import { Heading, Link, TroubleBox } from "../parts";
import { START } from "../routing";
import { ago, useNow } from "../times";
import { useOpenAlerts } from "../watchingAlerts";
import { alertStatusWord, severityWord } from "../words";

/** So many are in the document; who has more to do than that narrows it on the command line. */
const SHOWN = 200;

export function AlertsPage() {
  const watched = useOpenAlerts();
  const [refused, setRefused] = useState<Trouble>();
  const now = useNow();
  const sorted = useMemo(() => [...watched.alerts.values()].sort(byAttention), [watched.alerts]);

  async function work(deed: Promise<unknown>): Promise<void> {
    setRefused(undefined);
    try {
      await deed;
    } catch (error) {
      setRefused(troubleOf(error));
    }
  }

  return (
    <div class="full">
      <Heading>Alerts</Heading>
      {watched.trouble === undefined ? null : <TroubleBox trouble={watched.trouble} />}
      {refused === undefined ? null : <TroubleBox trouble={refused} />}
      <p role="status">{watched.complete ? summary(sorted) : "Loading …"}</p>
      {sorted.length === 0 ? null : (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                {["Severity", "Tenant", "Rule", "Status", "Now", "Firings", "Last", "Assignee", "What", "Work"].map((title) => (
                  <th key={title} scope="col">
                    {title}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {sorted.slice(0, SHOWN).map((alert) => (
                <Row key={alert.id} alert={alert} now={now} work={work} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}

interface RowProps {
  readonly alert: Alert;
  readonly now: number;
  readonly work: (deed: Promise<unknown>) => Promise<void>;
}

function Row({ alert, now, work }: RowProps) {
  const { id, etag } = alert;
  const named = `${alert.rule} of ${alert.tenantName}`;
  return (
    <tr>
      <td>{severityWord(alert.severity)}</td>
      <td>
        {alert.tenantGuid === "" ? alert.owner : <Link to={`${START}/${alert.tenantGuid}`}>{`${alert.tenantName} / ${alert.instanceName}`}</Link>}
      </td>
      <td>{alert.rule}</td>
      <td>{alertStatusWord(alert.status)}</td>
      <td>{standing(alert)}</td>
      <td>{alert.count.toLocaleString()}</td>
      <td>{ago(alert.lastTime, now)}</td>
      <td>{alert.assignee}</td>
      <td>{alert.message}</td>
      <td class="work">
        {alert.status === AlertStatus.NEW ? (
          <button type="button" aria-label={`Acknowledge ${named}`} onClick={() => void work(alerts.acknowledgeAlert({ id, etag }))}>
            Acknowledge
          </button>
        ) : null}
        <button type="button" aria-label={`Resolve ${named}`} onClick={() => void work(alerts.resolveAlert({ id, etag }))}>
          Resolve
        </button>
      </td>
    </tr>
  );
}

function standing(alert: Alert): string {
  const words = [alert.standing === 0 ? "over" : "stands"];
  if (alert.foundLate) words.push("found late");
  if (alert.mutedUntil !== undefined) words.push(`muted by ${alert.mutedBy}`);
  return words.join(", ");
}

/** What stands before what is over, the worst first, of equal ones the newest. */
function byAttention(one: Alert, other: Alert): number {
  return (
    Number(one.standing === 0) - Number(other.standing === 0) ||
    other.score - one.score ||
    Number((other.lastTime?.seconds ?? 0n) - (one.lastTime?.seconds ?? 0n)) ||
    one.id.localeCompare(other.id)
  );
}

function summary(open: readonly Alert[]): string {
  const fresh = open.filter((alert) => alert.status === AlertStatus.NEW).length;
  const over = open.filter((alert) => alert.standing === 0).length;
  const counts = `${open.length.toLocaleString()} open, ${fresh.toLocaleString()} new, ${over.toLocaleString()} over`;
  return open.length > SHOWN ? `${counts}; the first ${SHOWN} are shown` : counts;
}
