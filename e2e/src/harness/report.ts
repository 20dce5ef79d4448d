// What happened on each side since a mark, for machines (JSON) and for people (a table).

import { writeFile } from "node:fs/promises";
import path from "node:path";
import type { Kind, KindReport, SideReport } from "tandem-web/tandem";
import type { Side } from "./side.ts";
import type { Process } from "./tandem-dev.ts";

const KINDS: readonly Kind[] = ["audio", "video"];

export interface CallReport {
  title: string;
  /** The process that went away meanwhile, if one did. */
  process: Process | null;
  sides: Record<string, SideReport>;
}

export interface Marks {
  sides: readonly Side[];
  at_ms: readonly number[];
}

export async function mark(sides: readonly Side[]): Promise<Marks> {
  return { sides, at_ms: await Promise.all(sides.map((side) => side.mark())) };
}

export async function reportSince(title: string, marks: Marks, process: Process | null = null): Promise<CallReport> {
  const reports = await Promise.all(marks.sides.map((side, i) => side.report(marks.at_ms[i] ?? 0)));
  const sides = Object.fromEntries(marks.sides.map((side, i) => [side.name, reports[i] as SideReport]));
  return { title, process, sides };
}

/** Writes `<name>.json` and `<name>.txt` into the folder. */
export async function writeReport(folder: string, name: string, report: CallReport): Promise<void> {
  await writeFile(path.join(folder, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(path.join(folder, `${name}.txt`), table(report));
}

export function table(report: CallReport): string {
  const lines = [report.title, ""];
  if (report.process !== null) {
    const { name, pid, starts, outage_ms } = report.process;
    lines.push(`${name}: now pid ${pid ?? "none"}, start ${starts}, last outage ${outage_ms ?? "none"} ms`, "");
  }
  const head = ["side", "kind", "longest gap", "resolution", "measured by", "packet gap", "frame gap", "packets", "lost", "frames", "energy"];
  const rows = Object.entries(report.sides).flatMap(([name, side]) => KINDS.map((kind) => row(name, kind, side[kind])));
  lines.push(...columns([head, ...rows]), "");
  for (const [name, side] of Object.entries(report.sides)) {
    const seconds = ((side.until_ms - side.since_ms) / 1000).toFixed(1);
    lines.push(
      `${name}: leg ${side.leg ?? "none"}, ${side.samples} samples in ${seconds} s, at most ${side.sample_interval_ms_max.toFixed(0)} ms apart, ${side.dropped} dropped`,
      ...side.pairs.map((pair) => `  pair ${pair}`),
      ...(side.events.length === 0 ? ["  no event"] : side.events.map((e) => `  +${(e.at_ms - side.since_ms).toFixed(0)} ms ${e.type}: ${e.detail}`)),
    );
  }
  return `${lines.join("\n")}\n`;
}

function row(side: string, kind: Kind, r: KindReport): string[] {
  const bound = (ms: number | null): string => (ms === null ? "?" : ms.toFixed(0));
  return [
    side,
    kind,
    r.longest === null ? "no media" : `${r.longest.gap_ms.toFixed(0)} ms${r.longest.open ? " open" : ""}`,
    `${r.resolution_ms.toFixed(1)} ms`,
    r.source ?? "nothing",
    `${bound(r.packet_gap_at_least_ms)}..${bound(r.packet_gap_at_most_ms)} ms`,
    kind === "audio" ? "" : `<= ${bound(r.frame_gap_at_most_ms)} ms`,
    String(r.packets_received),
    String(r.packets_lost),
    String(r.frames_decoded),
    r.audio_energy.toExponential(1),
  ];
}

function columns(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => r[i]?.length ?? 0)));
  return rows.map((r) => r.map((text, i) => text.padEnd(widths[i] ?? 0)).join("  ").trimEnd());
}
