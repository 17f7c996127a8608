// One stream of LinkService.Connect, from Hello to Goodbye.
import { EventEmitter } from "node:events";
import os from "node:os";
import { fromDuration, toTimestamp } from "./contract.mjs";
import { Failure, failureOf } from "./failures.mjs";
import { sha256 } from "./joining.mjs";
import { layout } from "./metrics.mjs";
import { SILENT_MARKS } from "./spool.mjs";

const PROTOCOL_VERSION = 1;
const STATES_WITH_DATA = ["TENANT_STATE_ACTIVE", "TENANT_STATE_ALERT"];
const ANSWER_MS = 90_000;
const LEAST_PAUSE_MS = 500;

/** Whether metrics, alerts and notifications may be sent in a state. */
export const sendsData = (state) => STATES_WITH_DATA.includes(state);

/**
 * Sends what is in the spool and obeys the Master. Emits `resumed(incarnation)`, whose listener must have written the number to disk
 * when it returns; then `state(state)`, `configuration(configuration)`, `acknowledged(records)`, `trust(bundle)` and `renew()`.
 */
export class Link extends EventEmitter {
  #client;
  #spool;
  #stream = null;
  #open = false;
  #goodbye = null;
  #failure = null;
  #state = "TENANT_STATE_UNSPECIFIED";
  #credits = 0;
  #maxBatchBytes = 0;
  #unanswered = 0; // batches and losses under way
  #cursor = 0; // sequence number to send next
  #rewindTo = null; // where to go on once everything under way has been answered
  #pausedUntil = 0;
  #heartbeat = null;
  #answerTimer = null;

  constructor(client, spool) {
    super();
    this.#client = client;
    this.#spool = spool;
  }

  /** Opens the link. Resolves when it is over, with the Master's Goodbye or null; rejects with a Failure. */
  run(identity, memory, configurationVersion) {
    return new Promise((resolve, reject) => {
      this.#stream = this.#client.connect();
      this.#stream.on("data", (message) => this.#receive(message));
      this.#stream.on("error", (error) => {
        this.#close();
        reject(this.#failure ?? failureOf(error));
      });
      this.#stream.on("end", () => {
        this.#close();
        if (this.#failure) reject(this.#failure);
        else resolve(this.#goodbye);
      });
      this.#send({ hello: this.#hello(identity, memory, configurationVersion) });
      this.#expectAnswer();
    });
  }

  /** Says goodbye and ends the stream. `reason` is a GoodbyeReason. */
  leave(reason, note = "") {
    if (this.#open) this.#send({ goodbye: { reason, note } });
    this.#open = false;
    this.#stream.end();
    setTimeout(() => this.#stream.cancel(), 2_000).unref(); // in case that the Master does not end its side
  }

  /** Sends what the spool holds, as far as the state and the credits allow. */
  pump() {
    while (this.#open && sendsData(this.#state) && this.#unanswered < this.#credits) {
      if (this.#rewindTo !== null || Date.now() < this.#pausedUntil) return;
      const next = this.#spool.next(this.#cursor, this.#maxBatchBytes);
      if (next === null) return;
      this.#send(next.message);
      this.#cursor = next.lastSeq + 1;
      this.#unanswered += 1;
      this.#expectAnswer();
    }
  }

  /** Outcome of a configuration; `failure` is empty when it runs. */
  reportConfiguration(version, failure = "") {
    this.#send({ configurationReport: { version, failure } });
  }

  #hello(identity, memory, configurationVersion) {
    return {
      protocolVersion: PROTOCOL_VERSION,
      guid: identity.guid,
      incarnation: memory.incarnation,
      epoch: this.#spool.epoch,
      marks: [this.#spool.mark(), ...SILENT_MARKS],
      layoutIds: [layout.id],
      clock: toTimestamp(Date.now()),
      softwareVersion: "node-example 0.1.0",
      hostName: os.hostname(),
      trustBundleHash: sha256(identity.trustBundle),
      configurationVersion,
      lostEpochs: memory.lostEpochs.map((epoch) => ({
        stream: this.#spool.mark().stream,
        epoch: Buffer.from(epoch, "hex"),
        reason: "LOSS_REASON_SPOOL_DAMAGED",
        detail: "the process that held these records in memory has ended",
      })),
    };
  }

  #receive(message) {
    const value = message[message.message];
    switch (message.message) {
      case "resume":
        return this.#resume(value);
      case "ack":
        return this.#acknowledged(value);
      case "nack":
        return this.#refused(value);
      case "state":
        return this.#enter(value.state);
      case "configuration":
        return this.#workBy(value);
      case "trustBundle":
        this.emit("trust", value.trustBundle);
        return this.#send({ trustReport: { bundleHash: sha256(value.trustBundle) } });
      case "renew":
        return this.emit("renew");
      case "goodbye":
        this.#goodbye = value;
        this.#open = false;
        return this.#stream.end();
      default: // a message of a later version of the contract
        return undefined;
    }
  }

  #resume(resume) {
    this.#answered();
    const mark = resume.marks.find(({ stream }) => stream === this.#spool.mark().stream);
    if (!this.#spool.agrees(mark)) return this.#giveUp("HISTORIES_DIFFER", "the Master knows another history of this spool");
    this.#credits = resume.credits;
    this.#maxBatchBytes = resume.maxBatchBytes;
    this.#cursor = mark.lastSeq + 1;
    this.emit("resumed", resume.incarnation);
    this.#send({ begin: { incarnation: resume.incarnation } });
    this.#open = true;
    if (resume.unknownLayoutIds.length > 0) this.#send({ layouts: { layouts: [layout] } });
    this.#settle(mark.lastSeq);
    this.#workBy(resume.configuration);
    this.#enter(resume.state);
  }

  #enter(state) {
    this.#state = state;
    this.#pausedUntil = 0;
    this.emit("state", state);
    this.pump();
  }

  #workBy(configuration) {
    clearInterval(this.#heartbeat);
    const beat = () => this.#send({ heartbeat: { spool: this.#spool.status() } });
    this.#heartbeat = setInterval(beat, Math.max(1_000, fromDuration(configuration.heartbeatInterval) || 5_000));
    this.emit("configuration", configuration);
  }

  #acknowledged(ack) {
    this.#answered(ack.credits);
    this.#settle(ack.lastSeq);
    this.#cursor = Math.max(this.#cursor, ack.lastSeq + 1);
    if (this.#rewindTo !== null) this.#rewindTo = Math.max(this.#rewindTo, ack.lastSeq + 1);
    this.#rewind();
  }

  #refused(nack) {
    this.#answered(nack.credits);
    if (nack.cause === "CAUSE_CHAIN") return this.#giveUp("HISTORIES_DIFFER", nack.detail);
    if (nack.cause === "CAUSE_POISONED") this.#spool.refuse(nack.expectedSeq);
    else this.#pause(Math.max(LEAST_PAUSE_MS, fromDuration(nack.retryAfter)));
    this.#rewindTo = Math.min(this.#rewindTo ?? Infinity, nack.expectedSeq);
    this.#rewind();
  }

  /** What was sent behind a refused batch is refused too; only when all of it is answered is it sent again, once. */
  #rewind() {
    if (this.#rewindTo !== null && this.#unanswered === 0) {
      this.#cursor = this.#rewindTo;
      this.#rewindTo = null;
    }
    this.pump();
  }

  #settle(lastSeq) {
    const records = this.#spool.acknowledge(lastSeq);
    if (records.length > 0) this.emit("acknowledged", records);
  }

  #pause(milliseconds) {
    this.#pausedUntil = Date.now() + milliseconds;
    setTimeout(() => this.pump(), milliseconds + 1).unref();
  }

  /** An end that hangs while its network lives is noticed by answers that stay away. */
  #expectAnswer() {
    this.#answerTimer ??= setTimeout(() => this.#giveUp("NO_ANSWER", "the Master does not answer"), ANSWER_MS);
  }

  #answered(credits = 0) {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = null;
    this.#unanswered -= credits;
    if (this.#unanswered > 0) this.#expectAnswer();
  }

  #send(message) {
    this.#heartbeat?.refresh?.(); // any message counts as one
    this.#stream.write(message);
  }

  #giveUp(reason, text) {
    this.#failure = new Failure(reason, text);
    this.#close();
    this.#stream.cancel();
  }

  #close() {
    this.#open = false;
    clearInterval(this.#heartbeat);
    clearTimeout(this.#answerTimer);
  }
}
