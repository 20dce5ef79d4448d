// Decides how long to wait before the next try after a network error.

import { BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS } from "./limits.ts";

/** `failures` counts the tries that failed in a row, from 1. */
export function backoffMs(failures: number): number {
  return Math.min(BACKOFF_FIRST_MS * 2 ** Math.max(0, failures - 1), BACKOFF_LONGEST_MS);
}

/** Waits, and ends early (without an error) when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
