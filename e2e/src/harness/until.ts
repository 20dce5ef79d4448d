// Waits for a condition that only polling can see, with an end and a reason.

export interface Patience {
  timeout_ms: number;
  every_ms?: number;
}

/** The first value that `look` gives which is neither null nor false. Fails with `what` when the time is over. */
export async function until<T>(
  what: string,
  { timeout_ms, every_ms = 50 }: Patience,
  look: () => Promise<T | null | false>,
): Promise<T> {
  const found = await within({ timeout_ms, every_ms }, look);
  if (found === null) throw new Error(`not within ${timeout_ms} ms: ${what}`);
  return found;
}

/** The same, with null when the time is over. */
export async function within<T>(
  { timeout_ms, every_ms = 50 }: Patience,
  look: () => Promise<T | null | false>,
): Promise<T | null> {
  const end = performance.now() + timeout_ms;
  for (;;) {
    const found = await look();
    if (found !== null && found !== false) return found;
    if (performance.now() >= end) return null;
    await new Promise((resolve) => setTimeout(resolve, every_ms));
  }
}
