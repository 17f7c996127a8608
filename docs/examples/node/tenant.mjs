// A Tenant: joins once, then measures this machine and sends the figures to its Master until it is stopped.
//
//   node tenant.mjs join --folder DIR < FILE      the join string comes from stdin, never from the command line, which others can read
//   node tenant.mjs run --folder DIR [--interval SECONDS]
//
// `run` prints one JSON object for each event, one a line, and says goodbye on SIGINT and SIGTERM.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { fromDuration } from "./contract.mjs";
import { Failure, main } from "./failures.mjs";
import { Folder } from "./folder.mjs";
import { connectLink, enrol, renew, renewalDue } from "./identity.mjs";
import { decodeJoinString } from "./joining.mjs";
import { Link, sendsData } from "./link.mjs";
import { measure, PROBE } from "./metrics.mjs";
import { Spool } from "./spool.mjs";

const DEFAULT_INTERVAL_S = 10;
const RENEWAL_LOOK_MS = 60_000;
const FAREWELL_MS = 5_000;
const LEAST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
// Trying again does not help: a person has to decide something.
const FINAL = ["CERTIFICATE_REVOKED", "CERTIFICATE_EXPIRED", "PEER_CERTIFICATE_INVALID", "TENANT_QUARANTINED", "FOREIGN_TENANT"];
const FINAL_GOODBYES = ["GOODBYE_REASON_REPLACED"];

const print = (event, facts) => process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`);

class Tenant {
  #folder;
  #identity;
  #memory;
  #spool = new Spool();
  #state = "TENANT_STATE_UNSPECIFIED";
  #configuration = { version: 0 };
  #intervalMs;
  #link = null;
  #client = null;
  #measuring = null;
  #stopping = new AbortController();
  #settled = null; // called when the spool is empty
  #failures = 0;

  constructor(folder, intervalMs) {
    this.#folder = folder;
    this.#intervalMs = intervalMs;
    this.#identity = folder.readIdentity();
    if (!this.#identity) throw new Failure("NOT_JOINED", "nobody has joined with this folder");
    this.#memory = folder.readMemory();
    if (this.#memory.epoch) this.#abandon(); // the process before this one died with records in its memory
  }

  async run() {
    const renewal = setInterval(() => renewalDue(this.#identity) && this.#renew(), RENEWAL_LOOK_MS);
    this.#measureEvery(this.#intervalMs);
    try {
      for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
        const addresses = this.#identity.linkAddresses;
        const pauseMs = await this.#connect(addresses[attempt % addresses.length]);
        await sleep(pauseMs, null, { signal: this.#stopping.signal }).catch(() => {});
      }
    } finally {
      clearInterval(renewal);
      clearInterval(this.#measuring);
    }
  }

  /** Sends what is left, says goodbye, and lets `run` end. */
  async stop() {
    clearInterval(this.#measuring);
    if (this.#link && !this.#spool.empty && sendsData(this.#state)) {
      await Promise.race([new Promise((resolve) => (this.#settled = resolve)), sleep(FAREWELL_MS, null, { ref: false })]);
    }
    this.#stopping.abort();
    this.#link?.leave("GOODBYE_REASON_STOP", "stopped");
  }

  /** One link from its beginning to its end; how long to wait before the next, in milliseconds. */
  async #connect(address) {
    this.#client = connectLink(this.#identity, address);
    this.#link = this.#listenTo(new Link(this.#client, this.#spool));
    try {
      const goodbye = await this.#link.run(this.#identity, this.#memory, this.#configuration.version);
      print("disconnected", { goodbye: goodbye?.reason ?? null });
      if (FINAL_GOODBYES.includes(goodbye?.reason)) throw new Failure(goodbye.reason, "another process is this Tenant now");
      // Everybody comes back in a slot of their own.
      return goodbye?.retryAfter ? fromDuration(goodbye.retryAfter) : this.#backOff();
    } catch (error) {
      if (!(error instanceof Failure) || FINAL.includes(error.reason) || FINAL_GOODBYES.includes(error.reason)) throw error;
      print("disconnected", { reason: error.reason, message: error.message });
      if (error.reason === "HISTORIES_DIFFER") this.#abandon();
      return this.#backOff();
    } finally {
      this.#link = null;
      this.#client.close();
    }
  }

  #listenTo(link) {
    link.on("resumed", (incarnation) => {
      this.#failures = 0;
      this.#remember({ incarnation, lostEpochs: [] });
      print("connected", { incarnation });
    });
    link.on("state", (state) => {
      this.#state = state;
      print("state", { state });
    });
    link.on("configuration", (configuration) => {
      const changed = configuration.version !== this.#configuration.version;
      this.#configuration = configuration;
      this.#measureEvery(fromDuration(configuration.probeIntervals[PROBE]) || this.#intervalMs);
      if (changed) link.reportConfiguration(configuration.version);
    });
    link.on("acknowledged", (records) => {
      for (const { seq, samples, lost } of records) print(lost ? "lost" : "acknowledged", { seq, samples });
      if (this.#spool.empty) {
        this.#remember({ epoch: null });
        this.#settled?.();
      }
    });
    link.on("trust", (trustBundle) => {
      this.#identify({ ...this.#identity, trustBundle });
      print("trusting", { certificates: trustBundle.split("-----BEGIN CERTIFICATE-----").length - 1 });
    });
    link.on("renew", () => this.#renew());
    return link;
  }

  #measureEvery(intervalMs) {
    clearInterval(this.#measuring);
    this.#measuring = setInterval(() => this.#measure(), intervalMs);
  }

  #measure() {
    const wanted = sendsData(this.#state) && !this.#configuration.disabledProbes.includes(PROBE);
    if (!wanted || this.#spool.full) return;
    // On disk before the first record, so that a crash cannot hide that there were any.
    if (this.#memory.epoch === null) this.#remember({ epoch: this.#spool.epoch.toString("hex") });
    const measured = measure();
    const seq = this.#spool.add(measured);
    print("measured", { seq, samples: measured.samples });
    this.#link?.pump();
  }

  /** A new certificate on the link that is open, which is then made anew to use it. */
  async #renew() {
    const link = this.#link;
    if (!link) return;
    try {
      this.#identify(await renew(this.#identity, this.#client));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      print("renewal failed", { reason: error.reason, message: error.message });
      return;
    }
    print("renewed");
    if (this.#link === link) link.leave("GOODBYE_REASON_RENEWED");
  }

  /** What the spool held is gone; a new epoch begins, and the next Hello says so. */
  #abandon() {
    if (this.#memory.epoch) this.#remember({ epoch: null, lostEpochs: [...this.#memory.lostEpochs, this.#memory.epoch] });
    this.#spool = new Spool();
  }

  #identify(identity) {
    this.#folder.writeIdentity(identity);
    this.#identity = identity;
  }

  #remember(change) {
    this.#memory = { ...this.#memory, ...change };
    this.#folder.writeMemory(this.#memory);
  }

  #backOff() {
    const ceiling = Math.min(LONGEST_PAUSE_MS, LEAST_PAUSE_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    return ceiling * (0.5 + Math.random() / 2); // jitter: many Tenants must not come back at once
  }
}

async function program() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { folder: { type: "string", default: "tenant" }, interval: { type: "string", default: String(DEFAULT_INTERVAL_S) } },
  });
  const folder = new Folder(values.folder);
  if (positionals[0] === "join") {
    const ticket = decodeJoinString(readFileSync(0, "utf8"));
    await enrol(folder, ticket);
    print("joined", { guid: ticket.guid });
  } else if (positionals[0] === "run") {
    const tenant = new Tenant(folder, Number(values.interval) * 1000);
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => tenant.stop());
    await tenant.run();
  } else {
    throw new Failure("USAGE", "node tenant.mjs join|run [--folder DIR] [--interval SECONDS]");
  }
}

await main(program);
