// Signs a tab in: its device, its keys, what it remembers of others, its registration. Decides in which order; what follows
// is the machine's.

import { claimByLock } from "../session.ts";
import { nowMs } from "../clock.ts";
import type { PhoneConfig } from "../phone";
import { Api } from "./api.ts";
import { deviceOf } from "./identity.ts";
import { Own } from "./own.ts";
import type { Keyring } from "./sealing/keyring.ts";
import { Sealer } from "./sealing/sealer.ts";
import type { Store } from "./sealing/store.ts";
import { TrustBook } from "./sealing/trust.ts";

export interface SignedIn {
  device: string;
  api: Api;
  sealer: Sealer;
  trust: TrustBook;
  own: Own;
  /** Registers the device as it is now; false while its account's first device has not let it in. */
  register(): Promise<boolean>;
  endorsed: boolean;
}

/** `told`: something new is known of another account. Throws `Refused`. */
export async function signIn(
  config: PhoneConfig,
  account: string,
  store: Store,
  fetch: (url: string, init: RequestInit) => Promise<Response>,
  told: () => void,
): Promise<SignedIn> {
  const uuid = (): string => crypto.randomUUID();
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  const around = { storage: sessionStorage, store, uuid, now_ms: nowMs, claim: claimByLock, pause };
  const ring = await deviceOf(account, around);
  const { device } = ring.name;
  const api = new Api(config, account, device, fetch, Math.random);
  const trust = await TrustBook.load(store, account, told);
  const sealer = new Sealer({ store, ring, trust, devices: (of) => api.devices(of), now_ms: nowMs });
  await sealer.renew();
  const register = (): Promise<boolean> => registered(api, ring);
  return { device, api, sealer, trust, own: new Own(api, ring, trust), register, endorsed: await register() };
}

/** An endorsement of another root than the account has now is of no use: then this device asks again, or is the first. */
async function registered(api: Api, ring: Keyring): Promise<boolean> {
  const { endorsed } = await api.register(ring.registration);
  if (endorsed || !(await ring.endorseItself())) return endorsed;
  return (await api.register(ring.registration)).endorsed;
}
