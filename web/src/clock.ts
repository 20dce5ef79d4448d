// The one clock of the page: milliseconds since 1970, finer than a millisecond, never going back.

export function nowMs(): number {
  return performance.timeOrigin + performance.now();
}

/** Browsers give some times since 1970 and some since the page was opened: the first are far larger. */
export function sinceEpochMs(at_ms: number): number {
  return at_ms > 1e12 ? at_ms : performance.timeOrigin + at_ms;
}
