// What a device says with its `sign` key: that a prekey is its own, and, being its account's first, that a device belongs
// to the account. Decides the bytes that are signed (docs/sealing.md, "Keys" and "Who vouches for a device").

import { type Bytes, concat, frame } from "./bytes.ts";

export type Custody = "device" | "hosted";

/** A device key: who it is everywhere. */
export interface DeviceName {
  account: string;
  device: string;
}

export function prekeyStatement({ account, device }: DeviceName, id: number, key: Uint8Array): Bytes {
  return frame("tandem/v1 prekey", account, device, id, key);
}

export function deviceStatement(
  { account, device }: DeviceName,
  sign: Uint8Array,
  agree: Uint8Array,
  custody: Custody,
): Bytes {
  return frame("tandem/v1 device", account, device, sign, agree, custody);
}

export interface SignPair {
  public: Bytes;
  private: CryptoKey;
}

/** The private key never leaves WebCrypto. */
export async function makeSignPair(): Promise<SignPair> {
  const made = await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);
  if (!("privateKey" in made)) throw new Error("Ed25519 gave no pair of keys");
  return { public: new Uint8Array(await crypto.subtle.exportKey("raw", made.publicKey)), private: made.privateKey };
}

export async function sign(key: CryptoKey, statement: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign("Ed25519", key, statement));
}

/** False for what does not hold, and for a key that is none. */
export async function verify(key: Bytes, signature: Bytes, statement: Bytes): Promise<boolean> {
  try {
    const imported = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, signature, statement);
  } catch {
    return false;
  }
}

// RFC 8410 section 7: what stands before the 32 bytes of a private key in PKCS #8.
const PKCS8_ED25519 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);

/** Of a seed that is known, as golden vectors have it. */
export async function signPairOf(seed: Uint8Array): Promise<SignPair> {
  const pkcs8 = concat(PKCS8_ED25519, seed);
  const open = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", open);
  if (x === undefined) throw new Error("Ed25519 gave no public key");
  const base64 = x.replaceAll("-", "+").replaceAll("_", "/");
  const shut = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  return { public: Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)), private: shut };
}
