// The clear text in a blob: deflated where that is shorter, then padded, so that a blob's length says little of what is in
// it (docs/sealing.md, "Blobs"). Decides what is a clear text and what is none.

import { type Bytes, concat } from "./bytes.ts";
import { SealError } from "./errors.ts";
import { CLEAR_MAX, PAD_TO } from "./limits.ts";

const AS_IT_IS = 0;
const DEFLATED = 1;
const PAD_FIRST = 0x80;

export async function pack(clear: Uint8Array): Promise<Bytes> {
  if (clear.length > CLEAR_MAX) throw new SealError("malformed");
  const deflated = await through(clear, new CompressionStream("deflate-raw"), Infinity);
  const body = deflated.length < clear.length ? [Uint8Array.of(DEFLATED), deflated] : [Uint8Array.of(AS_IT_IS), clear];
  const whole = concat(...body, Uint8Array.of(PAD_FIRST));
  const short = (PAD_TO - (whole.length % PAD_TO)) % PAD_TO;
  return concat(whole, new Uint8Array(short));
}

/** Throws `malformed`. */
export async function unpack(packed: Uint8Array): Promise<Bytes> {
  if (packed.length === 0 || packed.length % PAD_TO !== 0) throw new SealError("malformed");
  let end = packed.length - 1;
  while (end > 0 && packed[end] === 0) end -= 1;
  if (end === 0 || packed[end] !== PAD_FIRST || packed.length - end > PAD_TO) throw new SealError("malformed");
  const body = Uint8Array.from(packed.subarray(1, end));
  switch (packed[0]) {
    case AS_IT_IS:
      return body;
    case DEFLATED:
      return inflate(body);
    default:
      throw new SealError("malformed");
  }
}

async function inflate(body: Bytes): Promise<Bytes> {
  try {
    return await through(body, new DecompressionStream("deflate-raw"), CLEAR_MAX);
  } catch {
    // Broken, with something after it, or too long.
    throw new SealError("malformed");
  }
}

/** All that comes out of `stream`; throws as soon as it is more than `most`. */
async function through(bytes: Uint8Array, stream: GenericTransformStream, most: number): Promise<Bytes> {
  const writer = (stream.writable as WritableStream<Uint8Array>).getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  // What is wrong with it is told by the reading side as well.
  written.catch(() => undefined);
  const reader = (stream.readable as ReadableStream<Uint8Array>).getReader();
  const parts: Uint8Array[] = [];
  for (let length = 0; ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > most) {
      await reader.cancel();
      throw new RangeError("too long");
    }
    parts.push(value);
  }
  return concat(...parts);
}
