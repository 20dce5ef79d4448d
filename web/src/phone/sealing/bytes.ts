// Bytes: the frame that everything signed or sealed is made of (docs/sealing.md, "Words"), and what bytes are joined,
// compared and spelled with. Pure.

import { toBytes } from "../base64.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** Each part as its length in two bytes (big-endian) and its bytes. Text is UTF-8, a number four bytes, big-endian. */
export function frame(...parts: readonly (string | number | Uint8Array)[]): Bytes {
  return concat(
    ...parts.flatMap((part) => {
      const bytes = typeof part === "string" ? toBytes(part) : typeof part === "number" ? u32(part) : part;
      if (bytes.length > 0xffff) throw new RangeError("a part of a frame has at most 65,535 bytes");
      return [Uint8Array.of(bytes.length >> 8, bytes.length & 0xff), bytes];
    }),
  );
}

/** Four bytes, big-endian. */
export function u32(number: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

export function readU32(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Of public bytes only: it stops at the first difference. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Base64url without padding (RFC 4648 section 5), of its base64. */
export function urlSafe(base64: string): string {
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
