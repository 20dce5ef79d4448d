// The question that every failover test asks: a process goes away under a running call; did the browsers notice?

import type { SideReport, Snapshot, TandemEventType } from "tandem-web/tandem";
import { type CallReport, mark, type Marks, reportSince, writeReport } from "./report.ts";
import type { Side } from "./side.ts";
import type { Process, TandemDev } from "./tandem-dev.ts";
import { until, within } from "./until.ts";

/** Events that an undisturbed call never has. */
const DISTURBANCES: readonly TandemEventType[] = [
  "connectionstatechange",
  "iceconnectionstatechange",
  "icecandidateerror",
  "selectedcandidatepairchange",
  "signalingstatechange",
  "negotiation",
];

/** The fake microphone beeps once a second, so "sound again" takes up to one second and a little. */
const AGAIN_TIMEOUT_MS = 5_000;

/** How long the call is watched before the fault, to show what is normal on this machine. */
const BASELINE_MS = 2_000;

export interface FailoverOptions {
  /**
   * Watch the call at least this long from the fault on, for events that come late: Chromium says "disconnected"
   * 5 to 8 s after the last answer to its checks, Firefox 4 to 7 s. Default: only until media is back.
   */
  watch_ms?: number;
}

export interface Failover {
  before: Process;
  after: Process;
  /** The call since just before the fault. */
  report: CallReport;
  /** The same call in the seconds before it. */
  baseline: CallReport;
  pairs: { before: (string | null)[]; after: (string | null)[] };
  /** Per side: did sound, picture and packets rise again after the new process was ready? */
  again: boolean[];
}

/**
 * Runs `fault` under a call that talks, waits for the relay's successor, and for media after that
 * (or for 5 s without any). Writes both reports into `folder`.
 */
export async function failover(
  title: string,
  folder: string,
  dev: TandemDev,
  sides: readonly Side[],
  fault: () => Promise<unknown>,
  { watch_ms = 0 }: FailoverOptions = {},
): Promise<Failover> {
  const quiet = await mark(sides);
  await passed(quiet, BASELINE_MS);
  const baseline = await reportSince(`${title}: before the fault`, quiet);
  const start = await Promise.all(sides.map((side) => side.snapshot()));
  const before = await dev.process("relay");
  const marks = await mark(sides);

  await fault();
  const after = await dev.replaced(before);
  const ready = await Promise.all(sides.map((side) => fresh(side)));
  const again = await Promise.all(
    sides.map(async (side, i) => {
      const since = ready[i] as Snapshot;
      return (await within({ timeout_ms: AGAIN_TIMEOUT_MS, every_ms: 100 }, () => side.roseAbove(since))) !== null;
    }),
  );

  await passed(marks, watch_ms);

  const end = await Promise.all(sides.map((side) => side.snapshot()));
  const report = await reportSince(title, marks, after);
  await writeReport(folder, "before", baseline);
  await writeReport(folder, "report", report);
  const pair = (s: Snapshot): string | null => (s.pair_id === null ? null : `${s.pair_id}: ${s.pair}`);
  return { before, after, report, baseline, pairs: { before: start.map(pair), after: end.map(pair) }, again };
}

/** Waits until every page's own clock says that this much time went by since the mark. */
async function passed(since: Marks, ms: number): Promise<void> {
  await until(`${ms} ms of running`, { timeout_ms: ms * 2 + 5_000 }, async () => {
    const now = await Promise.all(since.sides.map((side) => side.mark()));
    return now.every((at, i) => at - (since.at_ms[i] ?? at) >= ms);
  });
}

/** A snapshot that the browser took after this call began, not out of its cache. */
async function fresh(side: Side): Promise<Snapshot> {
  const since_ms = await side.mark();
  return until(`${side.name} gives fresh figures`, { timeout_ms: 2_000, every_ms: 10 }, async () => {
    const now = await side.snapshot();
    return now.taken_at_ms >= since_ms && now;
  });
}

export function disturbances(side: SideReport): string[] {
  return side.events
    .filter((e) => DISTURBANCES.includes(e.type))
    .map((e) => `+${(e.at_ms - side.since_ms).toFixed(0)} ms ${e.type}: ${e.detail}`);
}
