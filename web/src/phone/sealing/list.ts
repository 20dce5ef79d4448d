// Checks an account's device list, all of it, before any of its keys is used: every endorsement, every prekey's signature,
// and that the hash names this very list. One that does not hold makes the whole list void (`bad_device_list`).

import { fromBase64, toBase64, toBytes } from "../base64.ts";
import type { Device, DeviceList } from "../wire.ts";
import { type Bytes, concat, urlSafe } from "./bytes.ts";
import { SealError } from "./errors.ts";
import { type Custody, deviceStatement, prekeyStatement, verify } from "./statements.ts";

/** A device whose keys may be used. */
export interface Vouched {
  account: string;
  device: string;
  sign: Bytes;
  agree: Bytes;
  prekey: { id: number; key: Bytes };
  custody: Custody;
  /** By the root, base64. */
  endorsement: string;
}

export interface CheckedList {
  account: string;
  /** Null: the account has no device yet. */
  root: Bytes | null;
  devices: readonly Vouched[];
}

/** Throws `bad_device_list`. `account` is whom the list was asked for. */
export async function checkList(list: DeviceList, account: string): Promise<CheckedList> {
  try {
    return await check(list, account);
  } catch {
    // Whatever else is wrong with it (a field of another kind, no base64) is wrong with the list.
    throw new SealError("bad_device_list");
  }
}

async function check(list: DeviceList, account: string): Promise<CheckedList> {
  need(list.account === account);
  const ids = list.devices.map(({ device }) => device);
  need(new Set(ids).size === ids.length);
  need((await listHash(list.root, list.devices)) === list.list_hash);
  const root = list.root == null ? null : key(list.root);
  const devices = await Promise.all(
    list.devices.map((device) => {
      need(root !== null);
      return vouched(account, root, device);
    }),
  );
  return { account, root, devices };
}

async function vouched(account: string, root: Bytes, device: Device): Promise<Vouched> {
  const { identity, signed_prekey, custody, endorsement } = device;
  need(custody === "device" || custody === "hosted");
  need(endorsement != null && Number.isInteger(signed_prekey.id) && signed_prekey.id >= 0 && signed_prekey.id <= 0xffff_ffff);
  const [sign, agree, prekey] = [key(identity.sign), key(identity.agree), key(signed_prekey.key)];
  const name = { account, device: device.device };
  need(await verify(root, bytes(endorsement, 64), deviceStatement(name, sign, agree, custody)));
  need(await verify(sign, bytes(signed_prekey.signature, 64), prekeyStatement(name, signed_prekey.id, prekey)));
  return { ...name, sign, agree, prekey: { id: signed_prekey.id, key: prekey }, custody, endorsement };
}

/** Base64url of SHA-256 over root and devices, in the order of the ids. */
export async function listHash(root: string | null | undefined, devices: readonly Device[]): Promise<string> {
  const ordered = [...devices].sort((a, b) => (a.device < b.device ? -1 : 1));
  const texts = [root ?? ""];
  for (const { device, identity, signed_prekey, custody, endorsement } of ordered) {
    texts.push(device, identity.sign, identity.agree, String(signed_prekey.id), signed_prekey.key);
    texts.push(signed_prekey.signature, custody, endorsement ?? "");
  }
  const parts = texts.flatMap((text) => {
    const length = new Uint8Array(8);
    const said = toBytes(text);
    new DataView(length.buffer).setBigUint64(0, BigInt(said.length));
    return [length, said];
  });
  return urlSafe(toBase64(new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)))));
}

function key(base64: string): Bytes {
  return bytes(base64, 32);
}

function bytes(base64: string, length: number): Bytes {
  const read = fromBase64(base64);
  need(read.length === length);
  return read;
}

function need(holds: boolean): asserts holds {
  if (!holds) throw new SealError("bad_device_list");
}
