// The first contact: what a join string says, and how a root certificate is fetched by its fingerprint.
import { createHash } from "node:crypto";
import tls from "node:tls";
import { Failure } from "./failures.mjs";

const PREFIX = "tenantry-join:";
const CONNECT_MS = 10_000;

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();

/**
 * What a join string says: base64url of a JSON list and the first four bytes of the list's SHA-256. White space is forgiven,
 * because the string may come from a wrapped mail.
 */
export function decodeJoinString(text) {
  const compact = text.replace(/\s+/g, "");
  if (!compact.startsWith(PREFIX)) throw new Failure("JOIN_STRING_INVALID", `a join string starts with ${PREFIX}`);
  const checked = Buffer.from(compact.slice(PREFIX.length), "base64url");
  const payload = checked.subarray(0, -4);
  if (!sha256(payload).subarray(0, 4).equals(checked.subarray(-4))) {
    throw new Failure("JOIN_STRING_INVALID", "its checksum is wrong: a part is missing or changed");
  }
  const [version, guid, key, host, port, fingerprint, trustDomain] = JSON.parse(payload);
  if (version !== 1) throw new Failure("JOIN_STRING_INVALID", `its version is ${version}; this program knows version 1`);
  return { guid, key, address: host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`, fingerprint, trustDomain };
}

/**
 * The root certificate (PEM) with this SHA-256 fingerprint that the server at `address` presents. The handshake trusts nobody and
 * sends nothing secret; the fingerprint alone decides, and only a connection that is verified with this root is used for more.
 */
export function fetchRoot(address, serverName, fingerprint) {
  const [host, port] = splitAddress(address);
  const pin = Buffer.from(fingerprint.replaceAll(":", ""), "hex");
  return new Promise((resolve, reject) => {
    const options = { host, port, servername: serverName, ALPNProtocols: ["h2"], rejectUnauthorized: false, timeout: CONNECT_MS };
    const socket = tls.connect(options, () => {
      const root = presentedChain(socket).find(({ raw }) => sha256(raw).equals(pin));
      socket.destroy();
      if (root) resolve(toPem(root.raw));
      else reject(new Failure("PIN_MISMATCH", `${address} does not present the root certificate with the pinned fingerprint`));
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer within the time limit")));
    socket.once("error", (error) => reject(new Failure("UNREACHABLE", `${address}: ${error.message}`)));
  });
}

/** The certificates that the server sent: its own first, the root (which is its own issuer) last. */
function presentedChain(socket) {
  const chain = [];
  let certificate = socket.getPeerCertificate(true);
  while (certificate?.raw && !chain.includes(certificate)) {
    chain.push(certificate);
    certificate = certificate.issuerCertificate;
  }
  return chain;
}

function splitAddress(address) {
  const { hostname, port } = new URL(`tcp://${address}`);
  return [hostname.replace(/^\[|\]$/g, ""), Number(port)];
}

const toPem = (der) =>
  `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{1,64}/g, "$&\n")}-----END CERTIFICATE-----\n`;
