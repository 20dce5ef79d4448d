// The safety number of two accounts: 60 digits that are the same on both sides, for people to compare (docs/sealing.md,
// "What a device remembers of others"). And the digits by which a person tells their own new device. Pure.

import { type Bytes, concat, frame } from "./bytes.ts";
import { SAFETY_ROUNDS } from "./limits.ts";
import type { DeviceName } from "./statements.ts";

export interface Rooted {
  account: string;
  root: Bytes;
}

export async function safetyNumber(one: Rooted, other: Rooted): Promise<string> {
  const halves = [await half(one), await half(other)].sort();
  return halves.join("");
}

/** What the QR code of it holds. */
export function safetyText(number: string): string {
  return `tandem:safety:${number}`;
}

/** In twelve groups of five. */
export function inGroups(number: string): string[] {
  return number.match(/\d{5}/g) ?? [];
}

async function half({ account, root }: Rooted): Promise<string> {
  return digitsOf(await stretched(frame("tandem/v1 safety", account, root), root), 6);
}

/** Twenty digits of a device's keys, shown on both of a person's devices before one lets the other in (docs/sealing.md): a
 *  server that looked for keys of its own with the same digits would have to try 10^20, each 5,200 hashes. */
export async function joinCode({ account, device }: DeviceName, sign: Uint8Array, agree: Uint8Array): Promise<string> {
  const hash = await stretched(frame("tandem/v1 join code", account, device, sign, agree), sign);
  return digitsOf(hash, 4);
}

async function stretched(start: Bytes, key: Uint8Array): Promise<Bytes> {
  let hash = start;
  for (let round = 0; round < SAFETY_ROUNDS; round += 1) {
    hash = new Uint8Array(await crypto.subtle.digest("SHA-512", concat(hash, key)));
  }
  return hash;
}

/** Five digits of each five bytes. */
function digitsOf(hash: Bytes, groups: number): string {
  let digits = "";
  for (let at = 0; at < groups * 5; at += 5) {
    const number = hash.slice(at, at + 5).reduce((so_far, byte) => so_far * 256 + byte, 0);
    digits += String(number % 100_000).padStart(5, "0");
  }
  return digits;
}
