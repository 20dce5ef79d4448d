// Decides who this tab is to the server: a device id and its keys, one for each tab and account, made once and kept in
// sessionStorage, so that a reloaded tab is the same device. What the keys are used for is sealing.ts.

import { fromBase64, toBase64 } from "./base64.ts";
import { CLAIM_PAUSE_MS, CLAIM_TRIES } from "./limits.ts";
import type { Registration } from "./api.ts";

export interface DeviceKeys {
  device: string;
  registration: Registration;
  /** PKCS #8, base64: the private keys of identity.sign, identity.agree and the signed prekey. */
  secret: { sign: string; agree: string; prekey: string };
}

/** What of the browser is used, so that tests can stand in for it. */
export interface Surroundings {
  storage: Pick<Storage, "getItem" | "setItem">;
  subtle: SubtleCrypto;
  uuid(): string;
  /** Takes the name for as long as the tab lives; false if another tab has it. */
  claim(name: string): Promise<boolean>;
  pause(ms: number): Promise<void>;
}

/** The device of this tab for this account. A duplicated tab, which copies sessionStorage, becomes a device of its own. */
export async function deviceOf(account: string, around: Surroundings): Promise<DeviceKeys> {
  const name = `tandem.phone.device.${account}`;
  const kept = read(around.storage.getItem(name));
  if (kept !== null) {
    for (let tried = 0; tried < CLAIM_TRIES; tried += 1) {
      if (await around.claim(kept.device)) return kept;
      // The document before a reload may still hold it.
      await around.pause(CLAIM_PAUSE_MS);
    }
  }
  const fresh = await make(around);
  around.storage.setItem(name, JSON.stringify(fresh));
  await around.claim(fresh.device);
  return fresh;
}

async function make({ subtle, uuid }: Surroundings): Promise<DeviceKeys> {
  const sign = await pair(subtle, "Ed25519", ["sign", "verify"]);
  const agree = await pair(subtle, "X25519", ["deriveBits"]);
  const prekey = await pair(subtle, "X25519", ["deriveBits"]);
  // Over the 32 bytes of the key, as X3DH has it (section 3.1).
  const signature = new Uint8Array(await subtle.sign("Ed25519", sign.private_key, fromBase64(prekey.public)));
  return {
    device: `dev_${uuid().replaceAll("-", "")}`,
    registration: {
      identity: { sign: sign.public, agree: agree.public },
      signed_prekey: { id: 1, key: prekey.public, signature: toBase64(signature) },
    },
    secret: { sign: sign.secret, agree: agree.secret, prekey: prekey.secret },
  };
}

interface Pair {
  private_key: CryptoKey;
  public: string;
  secret: string;
}

async function pair(subtle: SubtleCrypto, name: "Ed25519" | "X25519", usages: KeyUsage[]): Promise<Pair> {
  const made = await subtle.generateKey({ name }, true, usages);
  if (!("privateKey" in made)) throw new Error(`${name} gave no pair of keys`);
  return {
    private_key: made.privateKey,
    public: toBase64(new Uint8Array(await subtle.exportKey("raw", made.publicKey))),
    secret: toBase64(new Uint8Array(await subtle.exportKey("pkcs8", made.privateKey))),
  };
}

/** Only this page writes there; what does not read was written by another version of it. */
function read(text: string | null): DeviceKeys | null {
  if (text === null) return null;
  try {
    const value = JSON.parse(text) as Partial<DeviceKeys> | null;
    const whole = value?.device !== undefined && value.registration !== undefined && value.secret !== undefined;
    return whole ? (value as DeviceKeys) : null;
  } catch {
    return null;
  }
}
