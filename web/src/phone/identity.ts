// Decides who this tab is to the server: a device for each tab and account, the same after a reload. sessionStorage has its
// id, the store its keys; what the keys are is sealing/keyring.ts.

import { CLAIM_PAUSE_MS, CLAIM_TRIES } from "./limits.ts";
import { Keyring } from "./sealing/keyring.ts";
import type { Store } from "./sealing/store.ts";

/** What of the browser is used, so that tests can stand in for it. */
export interface Surroundings {
  storage: Pick<Storage, "getItem" | "setItem">;
  store: Store;
  uuid(): string;
  now_ms(): number;
  /** Takes the name for as long as the tab lives; false if another tab has it. */
  claim(name: string): Promise<boolean>;
  pause(ms: number): Promise<void>;
}

/**
 * The device of this tab for this account. A duplicated tab, which copies sessionStorage, becomes a device of its own; a
 * new tab takes up a device whose tab is closed, so that closing a tab does not lose the account's first device.
 */
export async function deviceOf(account: string, around: Surroundings): Promise<Keyring> {
  const name = `tandem.phone.device.${account}`;
  const { store, storage } = around;
  const mine = storage.getItem(name);
  const kept = mine === null ? null : await Keyring.load(store, { account, device: mine });
  if (kept !== null) {
    for (let tried = 0; tried < CLAIM_TRIES; tried += 1) {
      if (await around.claim(kept.name.device)) return kept;
      // The document before a reload may still hold it.
      await around.pause(CLAIM_PAUSE_MS);
    }
  }
  const ring = (await left(account, around)) ?? (await fresh(account, around));
  storage.setItem(name, ring.name.device);
  return ring;
}

/** A device that no tab has. */
async function left(account: string, { store, claim }: Surroundings): Promise<Keyring | null> {
  for (const device of await Keyring.known(store, account)) {
    if (await claim(device)) return Keyring.load(store, { account, device });
  }
  return null;
}

async function fresh(account: string, { store, uuid, claim, now_ms }: Surroundings): Promise<Keyring> {
  const device = `dev_${uuid().replaceAll("-", "")}`;
  await claim(device);
  return Keyring.make(store, { account, device }, now_ms());
}
