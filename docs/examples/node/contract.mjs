// The contract. Everything that a program has to know about the Master's interface is in protos/; it is read at start, nothing
// is generated.
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import { failureOf } from "./failures.mjs";

const PROTOS = fileURLToPath(new URL("../../../protos", import.meta.url));
const CALL_MS = 10_000;

const definition = protoLoader.loadSync(
  ["enrolment", "link", "stream", "tenant", "tunnel", "tunnel_relay"].map((name) => `tenantry/v1/${name}_service.proto`),
  // Numbers of the contract stay far below 2^53, so that JavaScript's own numbers hold them.
  { includeDirs: [PROTOS], longs: Number, enums: String, defaults: true, oneofs: true },
);
const services = grpc.loadPackageDefinition(definition).tenantry.v1;

/** A message as the bytes that a batch carries. */
export const encodeMetricFrame = definition["tenantry.v1.MetricFrame"].serialize;

/**
 * A client of one service. `address` is what is dialled; the certificate must be made for `serverName`, whatever the address, and
 * come from `roots` (PEM). `credentials` may hold a token, or `privateKey` and `certificateChain` (PEM).
 */
export function connect(service, address, serverName, roots, { token, privateKey, certificateChain } = {}) {
  const pem = (text) => (text ? Buffer.from(text) : null);
  let credentials = grpc.credentials.createSsl(pem(roots), pem(privateKey), pem(certificateChain));
  if (token) {
    const bearer = grpc.credentials.createFromMetadataGenerator((_context, done) => {
      const metadata = new grpc.Metadata();
      metadata.set("authorization", `Bearer ${token}`);
      done(null, metadata);
    });
    credentials = grpc.credentials.combineChannelCredentials(credentials, bearer);
  }
  return new services[service](address, credentials, {
    "grpc.ssl_target_name_override": serverName,
    // Notices within 8 s that the other end or the way there is dead. More often than every 2.5 s is refused by the Master.
    "grpc.keepalive_time_ms": 5_000,
    "grpc.keepalive_timeout_ms": 3_000,
  });
}

/** One call with one answer. Rejects with a Failure. */
export function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: Date.now() + CALL_MS }, (error, answer) => {
      if (error) reject(failureOf(error));
      else resolve(answer);
    });
  });
}

/** Unix milliseconds as google.protobuf.Timestamp. */
export function toTimestamp(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanos: Math.round(milliseconds - seconds * 1000) * 1_000_000 };
}

/** google.protobuf.Duration, or an absent one, as milliseconds. */
export const fromDuration = (duration) => (duration ? duration.seconds * 1000 + duration.nanos / 1_000_000 : 0);
