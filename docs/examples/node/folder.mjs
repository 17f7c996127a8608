// What this Tenant keeps on disk. Every file is replaced as a whole, so that a crash leaves the old one or the new one.
import fs from "node:fs";
import path from "node:path";

export class Folder {
  #path;

  constructor(folder) {
    this.#path = folder;
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** The identity that joining left here; null before. Holds the private key. */
  readIdentity() {
    return this.#read("identity.json");
  }

  writeIdentity(identity) {
    this.#write("identity.json", identity);
  }

  /** The key of an enrolment that is under way: the same one after a crash, because the Master repeats its answer for it alone. */
  pendingKey(newKey) {
    const pending = this.#read("pending.json") ?? { privateKey: newKey() };
    this.#write("pending.json", pending);
    return pending.privateKey;
  }

  dropPendingKey() {
    fs.rmSync(this.#file("pending.json"));
  }

  /**
   * What proves at the next connection that this is not a copy: the incarnation that the Master gave last, the epoch of a spool whose
   * records may not all have arrived, and epochs that were lost and are still to be declared. Epochs in hexadecimal.
   */
  readMemory() {
    return this.#read("memory.json") ?? { incarnation: 0, epoch: null, lostEpochs: [] };
  }

  writeMemory(memory) {
    this.#write("memory.json", memory);
  }

  #file(name) {
    return path.join(this.#path, name);
  }

  #read(name) {
    try {
      return JSON.parse(fs.readFileSync(this.#file(name), "utf8"));
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  }

  #write(name, value) {
    const temporary = this.#file(`${name}.new`);
    fs.writeFileSync(temporary, JSON.stringify(value, null, 2), { mode: 0o600, flush: true });
    fs.renameSync(temporary, this.#file(name));
  }
}
