// Golden vectors: what this side seals with fixed keys, for the other side to open (`npm run vectors -w web` writes
// seal/vectors/web.json). Decides what stands in such a file; vectors.test.ts opens those of both sides. No part of the page.

import { fromBase64, toBase64, toBytes } from "../base64.ts";
import type { Device } from "../wire.ts";
import { type AgreePair, agreePairOf } from "./agreement.ts";
import { type Direction, sealNote, sealOffer, sealSession } from "./blobs.ts";
import type { Bytes } from "./bytes.ts";
import { listHash } from "./list.ts";
import { safetyNumber } from "./safety.ts";
import { type DeviceName, type SignPair, deviceStatement, prekeyStatement, sign, signPairOf } from "./statements.ts";

interface Keys {
  account: string;
  device: string;
  sign: string;
  agree: string;
}

interface Said {
  blob: string;
  clear: string;
}

/** All binary in base64; `clear` is what the app said, before it was deflated and padded. */
export interface Vectors {
  caller: Keys;
  callee: Keys & { prekey: { id: number; key: string } };
  call: string;
  offer: Said;
  session: (Said & { from: "caller" | "callee" })[];
  note: Said;
  /** Of the callee's prekey. */
  prekey_signature: string;
  root: string;
  endorsements: { caller: string; callee: string };
  safety: string;
  /** Of the callee's account. */
  list_hash: { root: string; devices: Device[]; hash: string };
}

/** A side whose private keys are known. */
export interface Side {
  name: DeviceName;
  sign: SignPair;
  agree: AgreePair;
}

export async function sideOf(keys: Keys): Promise<Side> {
  const { account, device } = keys;
  return { name: { account, device }, sign: await signPairOf(fromBase64(keys.sign)), agree: await agreePairOf(fromBase64(keys.agree)) };
}

export async function makeVectors(): Promise<Vectors> {
  const caller: Keys = { account: "alice", device: "dev_alice_1", sign: secret(1), agree: secret(2) };
  const prekey = { id: 7, key: secret(5) };
  const callee = { account: "bob@example.org", device: "dev_bob_1", sign: secret(3), agree: secret(4), prekey };
  const [a, b] = [await sideOf(caller), await sideOf(callee)];
  const call = "call_0006nwt0938nkrkaydxw0128hk";
  const pre = await agreePairOf(fromBase64(prekey.key));
  const route = { caller: a.name, callee: b.name };

  const long = `{"v":1,"t":"offer","sdp":"${"a=candidate:1 1 udp 2122260223 192.0.2.1 50000 typ host\\r\\n".repeat(40)}"}`;
  const { blob, secrets } = await sealOffer(route, a.agree, { id: prekey.id, key: pre.public }, toBytes(long));
  const talk = async (from: "caller" | "callee", n: number, clear: string): Promise<Said & { from: typeof from }> => {
    const way: Direction = from === "caller" ? secrets.caller_to_callee : secrets.callee_to_caller;
    return { from, blob: toBase64(await sealSession(way, call, n, toBytes(clear))), clear: toBase64(toBytes(clear)) };
  };
  const note = toBytes('{"v":1,"t":"missed","media":"video"}');
  const listed = [await listing(b, b, pre, prekey.id), await second(b)];
  const root = toBase64(b.sign.public);
  const [first] = listed;
  return {
    caller,
    callee,
    call,
    offer: { blob: toBase64(blob), clear: toBase64(toBytes(long)) },
    session: [
      await talk("callee", 1, '{"v":1,"t":"answer","sdp":"v=0\\r\\n"}'),
      await talk("caller", 1, '{"v":1,"t":"candidates","candidates":[]}'),
      await talk("callee", 2, "zwölf Boxkämpfer"),
      // A blob was lost on the way: this one has the number after it.
      await talk("caller", 3, ""),
      await talk("caller", 4, "x".repeat(9_000)),
    ],
    note: { blob: toBase64(await sealNote(route, a.agree, b.agree.public, note)), clear: toBase64(note) },
    prekey_signature: first?.signed_prekey.signature ?? "",
    root: "caller's sign is its own account's root; callee's likewise",
    endorsements: { caller: await endorsement(a, a), callee: await endorsement(b, b) },
    safety: await safetyNumber(
      { account: a.name.account, root: a.sign.public },
      { account: b.name.account, root: b.sign.public },
    ),
    list_hash: { root, devices: listed, hash: await listHash(root, listed) },
  };
}

/** The callee's account has another device, that an operator has the keys of. Its id comes before the first one's. */
async function second(root: Side): Promise<Device> {
  const keys = { account: root.name.account, device: "dev_bob_0", sign: secret(6), agree: secret(7) };
  return listing(await sideOf(keys), root, await agreePairOf(fromBase64(secret(8))), 1, "hosted");
}

async function listing(
  side: Side,
  root: Side,
  prekey: AgreePair,
  id: number,
  custody: "device" | "hosted" = "device",
): Promise<Device> {
  return {
    device: side.name.device,
    identity: { sign: toBase64(side.sign.public), agree: toBase64(side.agree.public) },
    signed_prekey: {
      id,
      key: toBase64(prekey.public),
      signature: toBase64(await sign(side.sign.private, prekeyStatement(side.name, id, prekey.public))),
    },
    capabilities: [],
    custody,
    endorsement: await endorsement(side, root, custody),
  };
}

async function endorsement(side: Side, root: Side, custody: "device" | "hosted" = "device"): Promise<string> {
  const statement: Bytes = deviceStatement(side.name, side.sign.public, side.agree.public, custody);
  return toBase64(await sign(root.sign.private, statement));
}

/** 32 bytes that anybody can write down. */
function secret(n: number): string {
  return toBase64(new Uint8Array(32).map((_, i) => (n * 32 + i) & 0xff));
}
