import { afterEach, expect, it, vi } from "vitest";
import { toBytes } from "../base64.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.resetModules();
});

/** The modules as a browser has them whose WebCrypto knows no X25519. */
async function without() {
  vi.resetModules();
  const { subtle } = crypto;
  const refuse = (name: "generateKey" | "importKey", at: number): void => {
    const real = subtle[name].bind(subtle) as (...given: unknown[]) => Promise<unknown>;
    vi.spyOn(subtle, name).mockImplementation(((...given: unknown[]) => {
      const asked = given[at] as string | { name: string };
      const wanted = typeof asked === "string" ? asked : asked.name;
      return wanted === "X25519" ? Promise.reject(new DOMException("X25519", "NotSupportedError")) : real(...given);
    }) as never);
  };
  refuse("generateKey", 0);
  refuse("importKey", 2);
  return { ...(await import("./agreement.ts")), ...(await import("./blobs.ts")) };
}

it("a browser without X25519 and one that has it open each other's blobs", async () => {
  const has = { ...(await import("./agreement.ts")), ...(await import("./blobs.ts")) };
  const there = await has.makeAgreePair();
  const route = { caller: { account: "alice", device: "dev_a" }, callee: { account: "bob", device: "dev_b" } };
  const lacks = await without();
  const here = await lacks.makeAgreePair();
  expect(here.private).toBeInstanceOf(Uint8Array);
  const sent = await lacks.sealNote(route, here, there.public, toBytes("to one that has it"));
  vi.restoreAllMocks();
  expect(await has.openNote(route, here.public, there, sent)).toEqual(toBytes("to one that has it"));
  const back = await has.sealNote(route, there, here.public, toBytes("and back"));
  expect(await lacks.openNote(route, there.public, here, back)).toEqual(toBytes("and back"));
});
