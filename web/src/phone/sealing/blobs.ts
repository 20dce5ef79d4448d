// Offer, session and note: seals and opens them to the byte (docs/sealing.md, "Blobs"). Decides what a blob is; with which
// keys, and whether its number is new, is the callers' business.

import type { AgreePair } from "./agreement.ts";
import { pairFor, suite } from "./agreement.ts";
import { type Bytes, concat, equal, frame, readU32, u32 } from "./bytes.ts";
import { pack, unpack } from "./clear.ts";
import { SealError } from "./errors.ts";
import { BLOB_MAX } from "./limits.ts";
import type { DeviceName } from "./statements.ts";

const OFFER = Uint8Array.of(1, 1);
const SESSION = Uint8Array.of(1, 2);
const NOTE = Uint8Array.of(1, 3);
const NONCE = 16;
const ENC = 32;
const TAG = 16;

/** One direction of a session. */
export interface Direction {
  key: CryptoKey;
  base: Bytes;
}

/** Both directions, as the caller and the callee name them. */
export interface Secrets {
  caller_to_callee: Direction;
  callee_to_caller: Direction;
}

export interface Route {
  caller: DeviceName;
  callee: DeviceName;
}

export interface OfferHead {
  prekey_id: number;
  nonce: Bytes;
}

export async function sealOffer(
  route: Route,
  sender: AgreePair,
  prekey: { id: number; key: Bytes },
  clear: Uint8Array,
): Promise<{ blob: Bytes; secrets: Secrets }> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
  const info = infoOf("tandem/v1 offer", route, nonce);
  const { enc, context } = await sending(sender, prekey.key, info);
  const head = concat(OFFER, u32(prekey.id), nonce, enc);
  const sealed = new Uint8Array(await context.seal(await pack(clear), head));
  return { blob: fitting(concat(head, sealed)), secrets: await secretsOf(context) };
}

/** What of an offer is in the open. Throws `malformed`. */
export function offerHead(blob: Uint8Array): OfferHead {
  whole(blob, OFFER, 4 + NONCE + ENC);
  return { prekey_id: readU32(blob, 2), nonce: Uint8Array.from(blob.subarray(6, 6 + NONCE)) };
}

/** Throws `malformed` and `forged`. */
export async function openOffer(
  route: Route,
  sender: Bytes,
  prekey: AgreePair,
  blob: Uint8Array,
): Promise<{ clear: Bytes; secrets: Secrets }> {
  const { nonce } = offerHead(blob);
  const { context, packed } = await receiving(sender, prekey, infoOf("tandem/v1 offer", route, nonce), blob, 6 + NONCE);
  return { clear: await unpack(packed), secrets: await secretsOf(context) };
}

export async function sealNote(route: Route, sender: AgreePair, recipient: Bytes, clear: Uint8Array): Promise<Bytes> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE));
  const { enc, context } = await sending(sender, recipient, infoOf("tandem/v1 note", route, nonce));
  const head = concat(NOTE, nonce, enc);
  return fitting(concat(head, new Uint8Array(await context.seal(await pack(clear), head))));
}

/** Throws `malformed` and `forged`. */
export async function openNote(route: Route, sender: Bytes, recipient: AgreePair, blob: Uint8Array): Promise<Bytes> {
  whole(blob, NOTE, NONCE + ENC);
  const nonce = Uint8Array.from(blob.subarray(2, 2 + NONCE));
  const { packed } = await receiving(sender, recipient, infoOf("tandem/v1 note", route, nonce), blob, 2 + NONCE);
  return unpack(packed);
}

export async function sealSession({ key, base }: Direction, call_id: string, n: number, clear: Uint8Array): Promise<Bytes> {
  const aes = { name: "AES-GCM", iv: numbered(base, n), additionalData: frame("tandem/v1 session", call_id, n) };
  const sealed = new Uint8Array(await crypto.subtle.encrypt(aes, key, await pack(clear)));
  return fitting(concat(SESSION, u32(n), sealed));
}

/** The number of a session blob. Throws `malformed`. */
export function sessionNumber(blob: Uint8Array): number {
  whole(blob, SESSION, 4);
  return readU32(blob, 2);
}

/** Throws `malformed` and `forged`. Whether its number is new is not asked here. */
export async function openSession({ key, base }: Direction, call_id: string, blob: Uint8Array): Promise<Bytes> {
  const n = sessionNumber(blob);
  const aes = { name: "AES-GCM", iv: numbered(base, n), additionalData: frame("tandem/v1 session", call_id, n) };
  let packed: Uint8Array;
  try {
    packed = new Uint8Array(await crypto.subtle.decrypt(aes, key, Uint8Array.from(blob.subarray(6))));
  } catch {
    throw new SealError("forged");
  }
  return unpack(packed);
}

function infoOf(what: string, { caller, callee }: Route, nonce: Bytes): Bytes {
  return frame(what, caller.account, caller.device, callee.account, callee.device, nonce);
}

type Sending = Awaited<ReturnType<Awaited<ReturnType<typeof suite>>["createSenderContext"]>>;
type Exporting = Pick<Sending, "export">;

async function sending(sender: AgreePair, recipient: Bytes, info: Bytes): Promise<{ enc: Bytes; context: Sending }> {
  const hpke = await suite();
  const context = await hpke.createSenderContext({
    recipientPublicKey: await hpke.kem.deserializePublicKey(recipient),
    senderKey: await pairFor(hpke, sender),
    info,
  });
  return { enc: new Uint8Array(context.enc), context };
}

/** `at`: where `enc` stands in the blob; what is before the ciphertext is the AAD. */
async function receiving(
  sender: Bytes,
  recipient: AgreePair,
  info: Bytes,
  blob: Uint8Array,
  at: number,
): Promise<{ packed: Uint8Array; context: Exporting }> {
  const bytes = Uint8Array.from(blob);
  const hpke = await suite();
  try {
    const context = await hpke.createRecipientContext({
      recipientKey: await pairFor(hpke, recipient),
      senderPublicKey: await hpke.kem.deserializePublicKey(sender),
      enc: bytes.slice(at, at + ENC),
      info,
    });
    const packed = new Uint8Array(await context.open(bytes.slice(at + ENC), bytes.slice(0, at + ENC)));
    return { packed, context };
  } catch {
    throw new SealError("forged");
  }
}

async function secretsOf(context: Exporting): Promise<Secrets> {
  const direction = async (name: string): Promise<Direction> => {
    const secret = new Uint8Array(await context.export(frameless(name), 28));
    const key = await crypto.subtle.importKey("raw", secret.slice(0, 16), "AES-GCM", false, ["encrypt", "decrypt"]);
    const base = secret.slice(16);
    secret.fill(0);
    return { key, base };
  };
  return {
    caller_to_callee: await direction("tandem/v1 caller to callee"),
    callee_to_caller: await direction("tandem/v1 callee to caller"),
  };
}

/** The text itself: exporter contexts are no frames. */
function frameless(text: string): Bytes {
  return Uint8Array.from(new TextEncoder().encode(text));
}

function numbered(base: Bytes, n: number): Bytes {
  const iv = base.slice();
  u32(n).forEach((byte, i) => {
    iv[8 + i] = (iv[8 + i] ?? 0) ^ byte;
  });
  return iv;
}

/** Throws unless it is of this kind and long enough to hold its head and a tag. */
function whole(blob: Uint8Array, kind: Bytes, head: number): void {
  const long = blob.length >= kind.length + head + TAG && blob.length <= BLOB_MAX;
  if (!long || !equal(blob.subarray(0, 2), kind)) throw new SealError("malformed");
}

function fitting(blob: Bytes): Bytes {
  if (blob.length > BLOB_MAX) throw new SealError("malformed");
  return blob;
}
