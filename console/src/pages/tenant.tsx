// One Tenant, live.
import { durationMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "preact/hooks";

import { tenants } from "../contract";
import { type Trouble, isSessionOver, troubleOf } from "../failures";
import { type Tenant, TenantState } from "../generated/tenantry/v1/tenant_pb";
import { ConnectivityBadge, Fact, Facts, Heading, Link, StateBadge, TroubleBox } from "../parts";
import { START } from "../routing";
import { ago, moment, useNow } from "../times";
import { useTenants } from "../watching";
import { goodbyeWord } from "../words";

const FIGURES_MS = 1_000;
const STATES = Object.values(TenantState).filter((state) => typeof state === "number" && state !== TenantState.UNSPECIFIED);

export function TenantPage({ guid }: { guid: string }) {
  // The list and its updates leave out what is missing; why it is missing, only asking for it tells.
  const watched = useTenants(JSON.stringify({ guids: [guid], states: STATES }), FIGURES_MS);
  const [missing, setMissing] = useState<Trouble>();
  const now = useNow();
  const tenant = watched.tenants.get(guid);
  const absent = watched.complete && watched.trouble === undefined && tenant === undefined;
  useEffect(() => {
    if (!absent) return setMissing(undefined);
    tenants.getTenant({ guid }).catch((error: unknown) => {
      if (!isSessionOver(error)) setMissing(troubleOf(error));
    });
  }, [absent, guid]);
  const trouble = watched.trouble ?? missing;
  return (
    <>
      <p>
        <Link to={START}>All Tenants</Link>
      </p>
      <Heading>{tenant === undefined ? "Tenant" : `${tenant.tenantName} / ${tenant.instanceName}`}</Heading>
      {trouble === undefined ? null : <TroubleBox trouble={trouble} />}
      {tenant === undefined ? null : <Details tenant={tenant} now={now} />}
    </>
  );
}

function Details({ tenant, now }: { tenant: Tenant; now: number }) {
  const { leave, quarantine, spool, configurationStatus: status } = tenant;
  return (
    <>
      {quarantine === undefined ? null : (
        <div class="trouble" role="alert">
          <p>
            Two machines claim to be this Tenant since {moment(quarantine.since)} ({quarantine.cause}). {quarantine.keptPeer || "None"} goes
            on, {quarantine.refusedPeer} is refused.
          </p>
          <p class="hint">
            <code>tenantry tenant resolve</code> keeps one of the two, <code>tenantry tenant rekey</code> trusts neither.
          </p>
        </div>
      )}
      <p class="now">
        <StateBadge state={tenant.state} /> <ConnectivityBadge connectivity={tenant.connectivity} />
      </p>
      <section aria-labelledby="usage">
        <h2 id="usage">Usage</h2>
        {tenant.usage === undefined ? (
          <p>It has sent no figures.</p>
        ) : (
          <>
            <div class="meters">
              <Meter name="CPU" share={tenant.usage.cpu} />
              <Meter name="Memory" share={tenant.usage.memory} />
              <Meter name="Fullest disk" share={tenant.usage.disk} />
            </div>
            <p class="hint">measured {ago(tenant.usage.time, now)}</p>
          </>
        )}
      </section>
      <section aria-labelledby="about">
        <h2 id="about">About</h2>
        <Facts>
          <Fact name="GUID">
            <code>{tenant.guid}</code>
          </Fact>
          <Fact name="Description">{tenant.description}</Fact>
          <Fact name="Tags">{tenant.tags.join(", ")}</Fact>
          <Fact name="Recipients">{tenant.recipients.join(", ")}</Fact>
          <Fact name="Registered">{moment(tenant.createTime)}</Fact>
          <Fact name="In this state since">{moment(tenant.stateSince)}</Fact>
          <Fact name="Why">{tenant.stateReason}</Fact>
          <Fact name="Deleted">{moment(tenant.deleteTime)}</Fact>
        </Facts>
      </section>
      <section aria-labelledby="link">
        <h2 id="link">Link</h2>
        <Facts>
          <Fact name="Last heard">{tenant.lastHeartbeat === undefined ? "never" : ago(tenant.lastHeartbeat, now)}</Fact>
          <Fact name="Connectivity since">{moment(tenant.connectivitySince)}</Fact>
          <Fact name="It left">
            {leave === undefined ? "" : `${goodbyeWord(leave.reason)}${leave.note === "" ? "" : `: ${leave.note}`}`}
          </Fact>
          <Fact name="Away until">{moment(leave?.until)}</Fact>
          <Fact name="Host">{tenant.hostName}</Fact>
          <Fact name="Address">{tenant.peerAddress}</Fact>
          <Fact name="Version of the daemon">{tenant.daemonVersion}</Fact>
          <Fact name="Clock">{tenant.clockOffset === undefined ? "" : clock(durationMs(tenant.clockOffset))}</Fact>
          <Fact name="Certificate ends">{moment(tenant.certificate?.notAfter)}</Fact>
          <Fact name="Waits on its disk">
            {spool === undefined
              ? ""
              : `${spool.unacknowledgedRecords.toLocaleString()} records, ${mebibytes(spool.bytes)} of ${mebibytes(spool.capacityBytes)}`}
          </Fact>
          <Fact name="Configuration">
            {status === undefined ? "" : `wanted ${status.wantedVersion}, running ${status.runningVersion || "none"}`}
          </Fact>
          <Fact name="Refused">{status?.failure ? `${status.failedVersion}: ${status.failure}` : ""}</Fact>
          <Fact name="Key hash">{tenant.keyHash === "" ? "" : <code>{tenant.keyHash}</code>}</Fact>
          <Fact name="Key works until">{moment(tenant.keyExpireTime)}</Fact>
        </Facts>
      </section>
    </>
  );
}

function Meter({ name, share }: { name: string; share: number | undefined }) {
  const id = `meter-${name.toLowerCase().replace(" ", "-")}`;
  return (
    <div>
      <label for={id}>{name}</label>
      <meter id={id} min={0} max={1} low={0.8} high={0.95} optimum={0} value={share ?? 0} />
      <span>{share === undefined ? "not sent" : `${(share * 100).toFixed(1)} %`}</span>
    </div>
  );
}

function clock(offsetMs: number): string {
  const seconds = (Math.abs(offsetMs) / 1000).toFixed(1);
  return Math.abs(offsetMs) < 100 ? "right" : `${seconds} s ${offsetMs > 0 ? "fast" : "slow"}`;
}

function mebibytes(bytes: bigint): string {
  return `${(Number(bytes) / 2 ** 20).toFixed(1)} MiB`;
}
