// The contract's enumerations in product words.
import { Role } from "./generated/tenantry/v1/access_pb";
import { AlertStatus } from "./generated/tenantry/v1/alert_service_pb";
import { Severity } from "./generated/tenantry/v1/link_service_pb";
import { Connectivity, GoodbyeReason, TenantState } from "./generated/tenantry/v1/tenant_pb";

/** `TIER_2_ANALYST` -> `Tier 2 analyst`. */
function word(name: string | undefined): string {
  if (name === undefined || name === "UNSPECIFIED") return "Unknown";
  const text = name.toLowerCase().replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function stateWord(state: TenantState): string {
  return word(TenantState[state]);
}

export function connectivityWord(connectivity: Connectivity): string {
  return word(Connectivity[connectivity]);
}

export function goodbyeWord(reason: GoodbyeReason): string {
  return word(GoodbyeReason[reason]).toLowerCase();
}

export function roleWord(role: Role): string {
  return word(Role[role]);
}

export function alertStatusWord(status: AlertStatus): string {
  return word(AlertStatus[status]);
}

export function severityWord(severity: Severity): string {
  return word(Severity[severity]);
}
