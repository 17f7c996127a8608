// Times and durations as people read them.
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { useEffect, useState } from "preact/hooks";

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const UNITS: readonly (readonly [string, number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

/** A date with its time of day, in the browser's language and zone. */
export function moment(time: Timestamp | undefined): string {
  return time === undefined ? "" : MOMENT.format(timestampMs(time));
}

/** How long ago that was, in its largest unit. */
export function ago(time: Timestamp | undefined, nowMs: number): string {
  if (time === undefined) return "never";
  const passed = nowMs - timestampMs(time);
  if (passed < 1_000) return "now";
  const [unit, size] = UNITS.find(([, size]) => passed >= size) ?? ["s", 1_000];
  return `${Math.floor(passed / size)} ${unit} ago`;
}

/** The time, with another rendering every second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
