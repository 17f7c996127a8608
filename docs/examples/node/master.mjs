// Which Master an operator's program speaks to, as the environment says: TENANTRY_ADDRESS is host:port of its api listener,
// TENANTRY_CA_FINGERPRINT what `tenantry-master init` printed, TENANTRY_TOKEN_FILE a file with a token of the operator,
// TENANTRY_TRUST_DOMAIN its trust domain where that is not the default.
import { readFileSync } from "node:fs";
import { connect } from "./contract.mjs";
import { Failure } from "./failures.mjs";
import { fetchRoot } from "./joining.mjs";

function setting(name, fallback) {
  const value = process.env[name] ?? fallback;
  if (!value) throw new Failure("USAGE", `the environment variable ${name} is missing`);
  return value;
}

/** The Master: `connect(service)` for what takes the operator's token, `connectWithout(…)` for a listener on another port of its host. */
export async function findMaster() {
  const address = setting("TENANTRY_ADDRESS");
  const serverName = `api.${setting("TENANTRY_TRUST_DOMAIN", "tenantry.internal")}`;
  const root = await fetchRoot(address, serverName, setting("TENANTRY_CA_FINGERPRINT"));
  const token = readFileSync(setting("TENANTRY_TOKEN_FILE"), "utf8").trim();
  return {
    connect: (service) => connect(service, address, serverName, root, { token }),
    connectWithout: (service, port, name) => connect(service, address.replace(/:\d+$/, `:${port}`), name, root),
  };
}
