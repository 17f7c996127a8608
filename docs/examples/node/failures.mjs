// What went wrong, as the Master says it: gRPC's status, and beside it a google.rpc.Status whose detail names the reason.
import grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

// The three messages of googleapis that an error consists of; the package of all of googleapis' protos would be some 20 MB.
const { root } = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`);
const Status = root.lookupType("google.rpc.Status");
const ErrorInfo = root.lookupType("google.rpc.ErrorInfo");
const DOMAIN = "tenantry.v1";

/** A call that failed. Branch on `reason`, never on the message, which may be worded differently tomorrow. */
export class Failure extends Error {
  constructor(reason, message, { code = null, metadata = {} } = {}) {
    super(message);
    this.reason = reason;
    this.code = code;
    this.metadata = metadata;
  }
}

/** The failure in an error of grpc-js. Without a reason of ours, from a proxy or the network, the status code's name stands for it. */
export function failureOf(error) {
  for (const bytes of error.metadata?.get("grpc-status-details-bin") ?? []) {
    for (const detail of Status.decode(bytes).details) {
      if (detail.typeUrl.endsWith("/google.rpc.ErrorInfo")) {
        const { reason, domain, metadata } = ErrorInfo.decode(detail.value);
        if (domain === DOMAIN) return new Failure(reason, error.details, { code: error.code, metadata: { ...metadata } });
      }
    }
  }
  return new Failure(grpc.status[error.code] ?? "UNKNOWN", error.details ?? error.message, { code: error.code });
}

/** Runs a program: a failure becomes one line on stderr, "REASON: message", and exit code 1. */
export async function main(program) {
  try {
    await program();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`${error.reason}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
