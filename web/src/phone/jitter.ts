// Decides how long to wait before the next try, so that many phones do not come back at once: decorrelated jitter
// (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).

import { PAUSE_FIRST_MS, PAUSE_LONGEST_MS } from "./limits.ts";

/** `before_ms` is the pause before this one, 0 for the first; `random` is 0 to 1. */
export function jitteredMs(before_ms: number, random: number): number {
  const highest = Math.max(PAUSE_FIRST_MS, before_ms * 3);
  return Math.min(PAUSE_LONGEST_MS, PAUSE_FIRST_MS + random * (highest - PAUSE_FIRST_MS));
}
