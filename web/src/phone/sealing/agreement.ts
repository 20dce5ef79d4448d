// The X25519 keys of a device and the HPKE suite that uses them: WebCrypto's with keys that cannot be exported, or, in a
// browser without X25519, the library's own with the 32 bytes. Decides which; what is sealed is blobs.ts.

import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { type Bytes, concat } from "./bytes.ts";

export interface AgreePair {
  public: Bytes;
  /** Bytes only where WebCrypto has no X25519. */
  private: CryptoKey | Bytes;
}

let native: Promise<boolean> | null = null;

/** Does this browser's WebCrypto have X25519? Asked once. */
function hasX25519(): Promise<boolean> {
  native ??= crypto.subtle.generateKey("X25519", false, ["deriveBits"]).then(
    () => true,
    () => false,
  );
  return native;
}

/** DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM. */
export async function suite(): Promise<CipherSuite> {
  const kem = (await hasX25519())
    ? new DhkemX25519HkdfSha256()
    : new (await import("@hpke/dhkem-x25519")).DhkemX25519HkdfSha256();
  return new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new Aes128Gcm() });
}

export async function makeAgreePair(): Promise<AgreePair> {
  if (await hasX25519()) {
    const made = await crypto.subtle.generateKey("X25519", false, ["deriveBits"]);
    if (!("privateKey" in made)) throw new Error("X25519 gave no pair of keys");
    return { public: new Uint8Array(await crypto.subtle.exportKey("raw", made.publicKey)), private: made.privateKey };
  }
  const { kem } = await suite();
  const { publicKey, privateKey } = await kem.generateKeyPair();
  const bytes = async (key: Promise<ArrayBuffer>): Promise<Bytes> => new Uint8Array(await key);
  return {
    public: await bytes(kem.serializePublicKey(publicKey)),
    private: await bytes(kem.serializePrivateKey(privateKey)),
  };
}

/** As the suite wants it. */
export async function pairFor({ kem }: CipherSuite, pair: AgreePair): Promise<CryptoKeyPair> {
  const publicKey = await kem.deserializePublicKey(pair.public);
  const secret = pair.private;
  const privateKey = secret instanceof Uint8Array ? await kem.deserializePrivateKey(secret) : secret;
  return { publicKey, privateKey };
}

// RFC 8410 section 7.
const PKCS8_X25519 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20);

/** Of a secret that is known, as golden vectors have it. */
export async function agreePairOf(secret: Bytes): Promise<AgreePair> {
  const base = new Uint8Array(32);
  base[0] = 9;
  const point = await crypto.subtle.importKey("raw", base, "X25519", false, []);
  const key = await crypto.subtle.importKey("pkcs8", concat(PKCS8_X25519, secret), "X25519", false, ["deriveBits"]);
  return { public: new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: point }, key, 256)), private: key };
}
