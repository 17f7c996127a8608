// Who this Tenant is: its key, its certificate, and whom it trusts.
import "reflect-metadata"; // @peculiar/x509 needs it
import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto, X509Certificate } from "node:crypto";
// Node makes keys and reads certificates, but cannot write a certificate request; this library does, on Node's own cryptography.
import { Pkcs10CertificateRequestGenerator } from "@peculiar/x509";
import { call, connect } from "./contract.mjs";
import { Failure } from "./failures.mjs";
import { fetchRoot } from "./joining.mjs";

const ECDSA = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** Uses up the key of a join ticket; what `enrol` answers is kept in `folder`. A lost answer is asked for again with the same key. */
export async function enrol(folder, ticket) {
  const known = folder.readIdentity();
  if (known && known.guid !== ticket.guid) throw new Failure("FOLDER_TAKEN", `the folder belongs to the Tenant ${known.guid}`);
  const serverName = `api.${ticket.trustDomain}`;
  const root = await fetchRoot(ticket.address, serverName, ticket.fingerprint);
  const privateKey = folder.pendingKey(newKey);
  const client = connect("EnrolmentService", ticket.address, serverName, root);
  try {
    const certificateRequest = await requestFor(privateKey);
    const answer = await call(client, "enrol", { guid: ticket.guid, key: ticket.key, certificateRequest });
    const { certificateChain, trustBundle, trustDomain, linkAddresses } = answer;
    folder.writeIdentity({ guid: ticket.guid, privateKey, certificateChain, trustBundle, trustDomain, linkAddresses });
    folder.dropPendingKey();
  } finally {
    client.close();
  }
}

/** A client of the link at `address`, which shows this identity. */
export function connectLink(identity, address) {
  return connect("LinkService", address, `link.${identity.trustDomain}`, identity.trustBundle, identity);
}

/** Whether two thirds of the certificate's life are over. */
export function renewalDue({ certificateChain }) {
  const { validFrom, validTo } = new X509Certificate(certificateChain);
  const [begin, end] = [Date.parse(validFrom), Date.parse(validTo)];
  return Date.now() >= begin + ((end - begin) * 2) / 3;
}

/** The identity with a new key and certificate. The old certificate works until the new one is used. */
export async function renew(identity, client) {
  const privateKey = newKey();
  const answer = await call(client, "renewCertificate", { certificateRequest: await requestFor(privateKey) });
  return { ...identity, privateKey, certificateChain: answer.certificateChain, trustBundle: answer.trustBundle };
}

function newKey() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ type: "pkcs8", format: "pem" });
}

/** A PKCS#10 request (DER) for a key (PEM). The Master takes nothing from it but the public key. */
async function requestFor(pem) {
  const key = createPrivateKey(pem);
  const imported = (format, der, usage) => webcrypto.subtle.importKey(format, der, ECDSA, true, [usage]);
  const keys = {
    privateKey: await imported("pkcs8", key.export({ type: "pkcs8", format: "der" }), "sign"),
    publicKey: await imported("spki", createPublicKey(key).export({ type: "spki", format: "der" }), "verify"),
  };
  const request = await Pkcs10CertificateRequestGenerator.create({ name: "CN=tenant", keys, signingAlgorithm: ECDSA });
  return Buffer.from(request.rawData);
}
