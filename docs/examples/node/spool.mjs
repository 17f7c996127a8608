// Records that the Master has not acknowledged yet, with their sequence numbers and their hash chain.
//
// An example: it lives in memory, so what was not acknowledged when the process dies is lost, and the next process says so in its
// Hello. A Tenant that promises more keeps records and epoch in a file, durable before it counts them as accepted.
import { randomBytes } from "node:crypto";
import { toTimestamp } from "./contract.mjs";
import { sha256 } from "./joining.mjs";

export const STREAM = "TENANT_STREAM_METRICS";
const CHAIN_START = Buffer.alloc(32);
const CAPACITY = 10_000;
const MAX_BATCH_RECORDS = 500;
const POISONED_AFTER = 3;

export class Spool {
  epoch = randomBytes(16);
  #entries = []; // { record, samples, chain, refusals }, without a hole
  #acknowledgedSeq = 0;
  #acknowledgedChain = CHAIN_START;
  #bytes = 0;

  get empty() {
    return this.#entries.length === 0;
  }

  get full() {
    return this.#entries.length >= CAPACITY;
  }

  get #nextSeq() {
    return this.#acknowledgedSeq + this.#entries.length + 1;
  }

  /** Takes a measurement; its sequence number. h(n) = SHA-256(h(n-1) || record n). */
  add({ record, samples }) {
    const chain = sha256(this.#entries.at(-1)?.chain ?? this.#acknowledgedChain, record);
    const seq = this.#nextSeq;
    this.#entries.push({ record, samples, chain, refusals: 0 });
    this.#bytes += record.length;
    return seq;
  }

  /** Where the spool stands, for Hello. */
  mark() {
    return {
      stream: STREAM,
      oldestSeq: this.#acknowledgedSeq + 1,
      nextSeq: this.#nextSeq,
      acknowledgedSeq: this.#acknowledgedSeq,
      acknowledgedChain: this.#acknowledgedChain,
    };
  }

  status() {
    const oldest = this.#entries[0]?.samples[0].timestampMs;
    return {
      unacknowledgedRecords: this.#entries.length,
      bytes: this.#bytes,
      capacityBytes: CAPACITY * 100, // a record of this example has about 70 bytes
      oldestUnacknowledged: oldest === undefined ? null : toTimestamp(oldest),
    };
  }

  /** Whether what the Master has stored is a part of this history. */
  agrees({ lastSeq, chain }) {
    if (lastSeq >= this.#nextSeq) return false;
    if (lastSeq < this.#acknowledgedSeq) return true; // erased here: a Master that was restored from a backup
    const own = lastSeq === this.#acknowledgedSeq ? this.#acknowledgedChain : this.#entry(lastSeq).chain;
    return own.equals(chain);
  }

  /** Everything up to `lastSeq` is settled at the Master; gives those records as { seq, samples, lost }: stored, or declared lost. */
  acknowledge(lastSeq) {
    const settled = this.#entries.splice(0, Math.max(0, lastSeq - this.#acknowledgedSeq));
    const first = this.#acknowledgedSeq + 1;
    const answers = settled.map((entry, index) => ({ seq: first + index, samples: entry.samples, lost: poisoned(entry) }));
    if (settled.length > 0) {
      this.#acknowledgedSeq += settled.length;
      this.#acknowledgedChain = settled.at(-1).chain;
      this.#bytes -= settled.reduce((sum, { record }) => sum + record.length, 0);
    }
    return answers;
  }

  /** The Master could not read a record. After the third time it is given up, and its loss declared in its place. */
  refuse(seq) {
    if (seq > this.#acknowledgedSeq && seq < this.#nextSeq) this.#entry(seq).refusals += 1;
  }

  /** What to send from `firstSeq` on, a batch or a loss, as { message, lastSeq }; null when there is nothing. */
  next(firstSeq, maxBytes) {
    if (firstSeq >= this.#nextSeq) return null;
    if (firstSeq <= this.#acknowledgedSeq) {
      return loss(firstSeq, this.#acknowledgedSeq, this.#acknowledgedChain, "LOSS_REASON_REPLAY_GONE");
    }
    const first = this.#entry(firstSeq);
    if (poisoned(first)) return loss(firstSeq, firstSeq, first.chain, "LOSS_REASON_POISONED");
    const records = [];
    let [bytes, chain] = [0, null];
    for (let seq = firstSeq; seq < this.#nextSeq && records.length < MAX_BATCH_RECORDS; seq += 1) {
      const entry = this.#entry(seq);
      bytes += entry.record.length;
      if (poisoned(entry) || bytes > maxBytes) break;
      records.push(entry.record);
      chain = entry.chain;
    }
    const batch = { stream: STREAM, firstSeq, records, chain, spool: this.status() };
    return { message: { batch }, lastSeq: firstSeq + records.length - 1 };
  }

  #entry(seq) {
    return this.#entries[seq - this.#acknowledgedSeq - 1];
  }
}

/** The marks of the streams that this example sends nothing in. */
export const SILENT_MARKS = ["TENANT_STREAM_ALERTS", "TENANT_STREAM_NOTIFICATIONS"].map((stream) => ({
  stream,
  oldestSeq: 1,
  nextSeq: 1,
  acknowledgedSeq: 0,
  acknowledgedChain: CHAIN_START,
}));

const poisoned = ({ refusals }) => refusals >= POISONED_AFTER;

function loss(firstSeq, lastSeq, chain, reason) {
  return { message: { loss: { stream: STREAM, firstSeq, lastSeq, reason, chain } }, lastSeq };
}
