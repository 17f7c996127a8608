// An operator's tool.
//
//   node admin.mjs list
//   node admin.mjs create TENANT_NAME INSTANCE_NAME    prints the join string on stdout, and nothing else
//   node admin.mjs activate TENANT_NAME INSTANCE_NAME
//   node admin.mjs watch [--changes N]
//
// Which Master is meant, and who is signed in, the environment says (master.mjs).
import { parseArgs } from "node:util";
import { call } from "./contract.mjs";
import { Failure, failureOf, main } from "./failures.mjs";
import { findMaster } from "./master.mjs";

const PAGE_SIZE = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { changes: { type: "string", default: "Infinity" }, "page-size": { type: "string", default: String(PAGE_SIZE) } },
});

const word = (name) => name.replace(/^(TENANT_STATE|CONNECTIVITY)_/, "").toLowerCase();
const memory = ({ usage }) => (usage?.memory === undefined ? "-" : `${(usage.memory * 100).toFixed(1)} %`);
const line = (tenant) =>
  [
    tenant.guid,
    word(tenant.state),
    word(tenant.connectivity),
    `memory ${memory(tenant)}`,
    `${tenant.tenantName} / ${tenant.instanceName}`,
  ].join("  ");

/** All Tenants that match, page by page. */
async function* tenants(client, filter = {}) {
  let pageToken = "";
  do {
    const page = await call(client, "listTenants", { pageSize: Number(values["page-size"]), pageToken, filter });
    yield* page.tenants;
    pageToken = page.nextPageToken;
  } while (pageToken);
}

async function list(client) {
  for await (const tenant of tenants(client)) console.log(line(tenant));
}

async function create(client, tenantName, instanceName) {
  // The request id makes it safe to send the same request again when the answer was lost.
  const request = { tenant: { tenantName, instanceName }, requestId: crypto.randomUUID() };
  const { tenant, enrolment } = await call(client, "createTenant", request);
  console.error(line(tenant));
  console.log(enrolment.joinString);
}

async function activate(client, tenantName, instanceName) {
  for await (const { guid, etag } of tenants(client, { tenantName, instanceName })) {
    const { tenant } = await call(client, "activateTenant", { guid, etag, reason: "by admin.mjs" });
    return console.log(line(tenant));
  }
  throw new Failure("TENANT_NOT_FOUND", `there is no Tenant ${tenantName} / ${instanceName}`);
}

/** Prints all Tenants, then each change, until `--changes` of them were printed. */
function watch(client) {
  let [left, synchronised] = [Number(values.changes), false];
  const stream = client.watchTenants({ interval: { seconds: 1 } });
  return new Promise((resolve, reject) => {
    stream.on("data", (step) => {
      if (step.event === "synchronised") console.log("-- changes --");
      else console.log(step.event === "gone" ? `${step.gone}  gone` : line(step.tenant));
      if (synchronised && (left -= 1) <= 0) stream.cancel();
      synchronised ||= step.event === "synchronised";
    });
    stream.on("end", resolve);
    stream.on("error", (error) => (left <= 0 ? resolve() : reject(failureOf(error))));
  });
}

const COMMANDS = { list, create, activate, watch };

async function program() {
  const [command, ...names] = positionals;
  if (!Object.hasOwn(COMMANDS, command ?? "")) throw new Failure("USAGE", `node admin.mjs ${Object.keys(COMMANDS).join("|")}`);
  const client = (await findMaster()).connect("TenantService");
  try {
    await COMMANDS[command](client, ...names);
  } finally {
    client.close();
  }
}

await main(program);
