// Decides which session this tab is. A reload keeps it; a duplicated tab, which copies sessionStorage, gets its own.

const KEY = "tandem.session";

/** What of the browser is used, so that tests can stand in for it. */
export interface Surroundings {
  storage: Pick<Storage, "getItem" | "setItem">;
  uuid(): string;
  /** Takes the name for as long as the tab lives; false if another tab has it. */
  claim(name: string): Promise<boolean>;
}

export async function session({ storage, uuid, claim }: Surroundings): Promise<string> {
  const kept = storage.getItem(KEY);
  if (kept !== null && (await claim(kept))) return kept;
  const fresh = uuid();
  storage.setItem(KEY, fresh);
  await claim(fresh);
  return fresh;
}

const claimed = new Set<string>();

/** A Web Lock ends with its tab, even one that crashed. Where there are none, every claim is granted. */
export function claimByLock(name: string): Promise<boolean> {
  if (claimed.has(name) || !("locks" in navigator)) return Promise.resolve(true);
  return new Promise((resolve) => {
    const held = navigator.locks.request(`tandem.session.${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      if (lock === null) return undefined;
      claimed.add(name);
      // Never settled: the lock is held until the tab goes.
      return new Promise<void>(() => undefined);
    });
    held.catch(() => resolve(true));
  });
}
