// How figures are written for people. Pure.

import type { Gap } from "./tandem";

export const NONE = "–";

export function rate(bps: number | null): string {
  if (bps === null) return NONE;
  return bps >= 1_000_000 ? `${(bps / 1_000_000).toFixed(2)} Mbit/s` : `${Math.round(bps / 1000)} kbit/s`;
}

export function ms(value: number | null): string {
  if (value === null) return NONE;
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return value < 10 && !Number.isInteger(value) ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

export function share(value: number | null): string {
  return value === null ? NONE : `${(value * 100).toFixed(1)} %`;
}

/** Between two packets there is always a little nothing; a silence longer than any spacing "goes on". */
const GOES_ON_AFTER_MS = 200;

/** "540 ms", or "540 ms and going on" while nothing comes. */
export function gap(longest: Gap | null): string {
  if (longest === null) return NONE;
  const text = ms(longest.gap_ms);
  return longest.open && longest.gap_ms > GOES_ON_AFTER_MS ? `${text} and going on` : text;
}

/** 14:03:27.081, local time. */
export function clock(at_ms: number): string {
  const d = new Date(at_ms);
  const two = (n: number): string => String(n).padStart(2, "0");
  const millis = String(d.getMilliseconds()).padStart(3, "0");
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${millis}`;
}
