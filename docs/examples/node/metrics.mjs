// What this Tenant measures: figures of the machine, as frames of one layout.
import os from "node:os";
import { encodeMetricFrame } from "./contract.mjs";
import { sha256 } from "./joining.mjs";

/** Name of the one probe, for the Master's configuration (`probe_intervals`, `disabled_probes`). */
export const PROBE = "node";

const GAUGE = "SERIES_KIND_GAUGE";
const COUNTER = "SERIES_KIND_COUNTER";
// OpenTelemetry's names, UCUM units; a label list is ordered by name.
const COLUMNS = [
  { name: "system.cpu.load_average.1m", unit: "{thread}", kind: GAUGE, labels: [], read: () => os.loadavg()[0] },
  {
    name: "system.memory.usage",
    unit: "By",
    kind: GAUGE,
    labels: [["system.memory.state", "used"]],
    read: () => os.totalmem() - os.freemem(),
  },
  {
    name: "system.memory.utilization",
    unit: "1",
    kind: GAUGE,
    labels: [["system.memory.state", "used"]],
    read: () => 1 - os.freemem() / os.totalmem(),
  },
  {
    name: "process.cpu.time",
    unit: "s",
    kind: COUNTER,
    labels: [["cpu.mode", "user"]],
    read: () => process.cpuUsage().user / 1e6,
  },
];

/** The layout as it is registered: frames name its id and carry values only. */
export const layout = makeLayout(COLUMNS);

function makeLayout(columns) {
  const text = columns
    .map(({ name, unit, kind, labels }) => [name, unit, kind === COUNTER ? "counter" : "gauge", ...labels.flat()])
    .map((fields) => fields.join("\u001f") + "\u001e")
    .join("");
  const series = columns.map(({ name, unit, kind, labels }) => ({
    name,
    unit,
    kind,
    labels: labels.map(([label, value]) => ({ name: label, value })),
  }));
  return { id: sha256(text).subarray(0, 16), series };
}

/** One measurement: the record for the spool, and its samples in a form to print. */
export function measure() {
  const timestampMs = Date.now();
  const readings = COLUMNS.map((column) => column.read());
  const values = Buffer.alloc(8 * readings.length);
  readings.forEach((value, index) => values.writeDoubleLE(value, 8 * index));
  const samples = COLUMNS.map(({ name, labels }, index) => ({
    metric: name,
    labels: Object.fromEntries(labels),
    timestampMs,
    value: readings[index],
  }));
  return { record: encodeMetricFrame({ layoutId: layout.id, timestampsMs: [timestampMs], values }), samples };
}
