// What a server that lies can make itself: keys of its own, lists of devices that they sign, blobs with a bit turned. The bytes
// are those of docs/sealing.md, made here a second time, so that a lie is refused for what it lies about and for nothing else.

import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";

export interface Device {
  device: string;
  identity: { sign: string; agree: string };
  signed_prekey: { id: number; key: string; signature: string };
  capabilities: unknown;
  custody: string;
  endorsement?: string | null;
}

export interface DeviceList {
  account: string;
  root?: string | null;
  list_hash: string;
  devices: Device[];
}

/** Somebody with a whole set of keys, who is none of the accounts. */
export class Impostor {
  readonly #sign = generateKeyPairSync("ed25519");
  readonly root = publicOf(this.#sign.publicKey);
  readonly agree = publicOf(generateKeyPairSync("x25519").publicKey);
  readonly prekey = publicOf(generateKeyPairSync("x25519").publicKey);

  signPrekey(account: string, device: string, id: number, key = this.prekey): string {
    return this.#signed(frame("tandem/v1 prekey", account, device, u32(id), bytes(key)));
  }

  /** The device with this one's keys; the impostor endorses it as a root would. */
  instead(account: string, { device, signed_prekey: { id }, capabilities, custody }: Device): Device {
    const [key, root, agree] = [this.prekey, this.root, this.agree];
    return {
      device,
      identity: { sign: root, agree },
      signed_prekey: { id, key, signature: this.signPrekey(account, device, id) },
      capabilities,
      custody,
      endorsement: this.#signed(frame("tandem/v1 device", account, device, bytes(root), bytes(agree), custody)),
    };
  }

  /** The whole account, device by device, under this root: nothing in it contradicts anything else in it. */
  list(real: DeviceList): DeviceList {
    return hashed({ ...real, root: this.root, devices: real.devices.map((device) => this.instead(real.account, device)) });
  }

  #signed(statement: Buffer): string {
    return sign(null, statement, this.#sign.privateKey).toString("base64");
  }
}

/** The list with the hash that it must have. */
export function hashed(list: DeviceList): DeviceList {
  const hash = createHash("sha256");
  const say = (text: string): void => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(Buffer.byteLength(text)));
    hash.update(length).update(text);
  };
  say(list.root ?? "");
  for (const one of [...list.devices].sort((a, b) => (a.device < b.device ? -1 : 1))) {
    const { id, key, signature } = one.signed_prekey;
    const { sign: signs, agree } = one.identity;
    for (const text of [one.device, signs, agree, String(id), key, signature, one.custody, one.endorsement ?? ""]) say(text);
  }
  return { ...list, list_hash: hash.digest("base64url") };
}

/** The lowest bit of one byte turned; a negative `at` counts from the end. */
export function flipped(blob: string, at: number): string {
  const turned = bytes(blob);
  const place = at < 0 ? turned.length + at : at;
  turned[place] = (turned[place] ?? 0) ^ 1;
  return turned.toString("base64");
}

/** Of what kind a key is, its last 32 bytes are the key itself. */
function publicOf(key: KeyObject): string {
  return key.export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
}

function bytes(base64: string): Buffer {
  return Buffer.from(base64, "base64");
}

function u32(number: number): Buffer {
  const four = Buffer.alloc(4);
  four.writeUInt32BE(number);
  return four;
}

function frame(...parts: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => {
      const said = Buffer.from(part);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(said.length);
      return [length, said];
    }),
  );
}
