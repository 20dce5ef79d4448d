import { beforeEach, describe, expect, it } from "vitest";
import { fromBase64, toBase64, toBytes } from "../base64.ts";
import type { Device, DeviceList } from "../wire.ts";
import { makeAgreePair } from "./agreement.ts";
import { offerHead, openNote, openOffer, openSession, sealNote, sealOffer, sealSession, sessionNumber } from "./blobs.ts";
import { concat, frame, u32, urlSafe } from "./bytes.ts";
import { pack, unpack } from "./clear.ts";
import { isSealFault } from "./errors.ts";
import { Keyring } from "./keyring.ts";
import { PREKEY_KEPT_MS, PREKEY_RENEWED_MS, SESSION_KEPT_MS } from "./limits.ts";
import { checkList, listHash } from "./list.ts";
import { inGroups, joinCode, safetyNumber, safetyText } from "./safety.ts";
import { Sealer } from "./sealer.ts";
import { MemoryStore } from "./store.ts";
import { TrustBook } from "./trust.ts";

const CALL = "call_0006nwt0938nkrkaydxw0128hk";
const NOW_MS = 1_000_000;
const said = (text: string): Uint8Array => toBytes(text);

/** What the server says of the devices of these keyrings; the first is the root. */
async function listOf(...rings: Keyring[]): Promise<DeviceList> {
  const [first] = rings;
  if (first === undefined) return { account: "nobody", list_hash: await listHash(undefined, []), devices: [] };
  const devices: Device[] = rings.map((ring) => {
    const { identity, signed_prekey, endorsement } = ring.registration;
    return { device: ring.name.device, identity, signed_prekey, endorsement, capabilities: [], custody: "device" };
  });
  const root = first.registration.identity.sign;
  return { account: first.name.account, root, devices, list_hash: await listHash(root, devices) };
}

describe("bytes", () => {
  it("are framed with their lengths", () => {
    expect(frame("ab", 258, Uint8Array.of(7))).toEqual(Uint8Array.of(0, 2, 97, 98, 0, 4, 0, 0, 1, 2, 0, 1, 7));
    expect(frame("", "ü")).toEqual(Uint8Array.of(0, 0, 0, 2, 0xc3, 0xbc));
    expect(() => frame(new Uint8Array(65_536))).toThrow(RangeError);
    expect(urlSafe("+/8=")).toBe("-_8");
  });
});

describe("a clear text", () => {
  it.each([["empty", ""], ["short", "hello"], ["long", "abc".repeat(5_000)]])("that is %s survives the way, padded", async (_name, text) => {
    const packed = await pack(said(text));
    expect(packed.length % 128).toBe(0);
    expect(await unpack(packed)).toEqual(said(text));
  });

  it("is left as it is when deflating makes it no shorter", async () => {
    expect((await pack(said("a")))[0]).toBe(0);
    expect((await pack(said("a".repeat(500))))[0]).toBe(1);
  });

  it.each([
    ["empty", new Uint8Array(0)],
    ["no multiple of 128", concat(Uint8Array.of(0, 0x80), new Uint8Array(100))],
    ["without the mark", new Uint8Array(128)],
    ["of another kind", concat(Uint8Array.of(2, 0x80), new Uint8Array(126))],
    ["padded more than it needs", concat(Uint8Array.of(0, 0x80), new Uint8Array(254))],
    ["deflated wrongly", concat(Uint8Array.of(1, 0xff, 0xff, 0x80), new Uint8Array(124))],
  ])("that is %s is malformed", async (_name, packed) => {
    await expect(unpack(packed)).rejects.toMatchObject({ fault: "malformed" });
  });

  it("of more than 64 KiB is malformed, on either way", async () => {
    await expect(pack(new Uint8Array(65_537))).rejects.toMatchObject({ fault: "malformed" });
    const bomb = new Blob([new Uint8Array(200_000)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
    const deflated = new Uint8Array(await new Response(bomb).arrayBuffer());
    const whole = concat(Uint8Array.of(1), deflated, Uint8Array.of(0x80));
    const packed = concat(whole, new Uint8Array((128 - (whole.length % 128)) % 128));
    await expect(unpack(packed)).rejects.toMatchObject({ fault: "malformed" });
    expect(await unpack(await pack(new Uint8Array(65_536)))).toHaveLength(65_536);
  });
});

describe("a blob", () => {
  const route = { caller: { account: "alice", device: "dev_a" }, callee: { account: "bob", device: "dev_b" } };

  it("of an offer opens for whom it is, and gives both sides the same session", async () => {
    const [agree, prekey] = [await makeAgreePair(), await makeAgreePair()];
    const { blob, secrets } = await sealOffer(route, agree, { id: 9, key: prekey.public }, said("hello"));
    expect(offerHead(blob).prekey_id).toBe(9);
    const opened = await openOffer(route, agree.public, prekey, blob);
    expect(opened.clear).toEqual(said("hello"));
    const answer = await sealSession(opened.secrets.callee_to_caller, CALL, 1, said("yes"));
    expect(sessionNumber(answer)).toBe(1);
    expect(await openSession(secrets.callee_to_caller, CALL, answer)).toEqual(said("yes"));
    const forged = { fault: "forged" };
    await expect(openSession(secrets.caller_to_callee, CALL, answer)).rejects.toMatchObject(forged);
    await expect(openSession(secrets.callee_to_caller, "call_other", answer)).rejects.toMatchObject(forged);
    const elsewhere = { ...route, callee: { account: "bob", device: "dev_c" } };
    await expect(openOffer(elsewhere, agree.public, prekey, blob)).rejects.toMatchObject(forged);
    await expect(openOffer(route, prekey.public, prekey, blob)).rejects.toMatchObject(forged);
    for (const at of [2, 6, 22, blob.length - 1]) {
      const changed = blob.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(openOffer(route, agree.public, prekey, changed)).rejects.toMatchObject(forged);
    }
  });

  it("of a note opens for whom it is", async () => {
    const [sender, recipient] = [await makeAgreePair(), await makeAgreePair()];
    const blob = await sealNote(route, sender, recipient.public, said("video"));
    expect(await openNote(route, sender.public, recipient, blob)).toEqual(said("video"));
  });

  it("cut short, of another version or kind, or too long is malformed", async () => {
    for (const blob of [new Uint8Array(0), Uint8Array.of(1, 2, 0, 0, 0, 1), concat(Uint8Array.of(2, 2), new Uint8Array(40)), concat(Uint8Array.of(1, 2), new Uint8Array(8_191))]) {
      expect(() => sessionNumber(blob)).toThrow(expect.objectContaining({ fault: "malformed" }));
    }
    const [one] = [await makeAgreePair()];
    const noise = Uint8Array.from({ length: 9_000 }, (_, i) => (i * 7_919 + (i >> 3) * 104_729) & 0xff);
    const random = concat(noise, crypto.getRandomValues(new Uint8Array(9_000)));
    await expect(sealNote(route, one, one.public, random)).rejects.toMatchObject({ fault: "malformed" });
  });
});

describe("a device list", () => {
  let ring: Keyring;
  let list: DeviceList;
  beforeEach(async () => {
    ring = await Keyring.make(new MemoryStore(), { account: "bob", device: "dev_b" }, NOW_MS);
    list = await listOf(ring);
  });

  it("that holds gives keys that may be used", async () => {
    const checked = await checkList(list, "bob");
    expect(checked.devices).toMatchObject([{ device: "dev_b", custody: "device", prekey: { id: 1 }, agree: ring.agree.public }]);
    expect(await checkList(await listOf(), "nobody")).toEqual({ account: "nobody", root: null, devices: [] });
  });

  it.each<[string, (list: DeviceList, device: Device) => unknown]>([
    ["whose hash is another", (l) => (l.list_hash = "x")],
    ["of another account", (l) => (l.account = "eve")],
    ["without a root", (l) => delete l.root],
    ["with a device that nobody has endorsed", (_, d) => delete d.endorsement],
    ["with a device whose custody was changed", (_, d) => (d.custody = "hosted")],
    ["with another agreement key", (_, d) => (d.identity.agree = d.signed_prekey.key)],
    ["with another prekey", (_, d) => (d.signed_prekey.key = d.identity.agree)],
    ["with another prekey id", (_, d) => (d.signed_prekey.id = 2)],
    ["with a device twice", (l, d) => l.devices.push(d)],
    ["with what is no base64", (_, d) => (d.identity.sign = "é")],
    ["that is no list", (l) => ((l as { devices: unknown }).devices = null)],
  ])("%s is void, even with the hash made anew", async (_name, change) => {
    const [device] = list.devices;
    if (device === undefined) throw new Error("no device");
    const before = list.list_hash;
    change(list, device);
    if (list.list_hash === before) list.list_hash = await listHash(list.root, list.devices).catch(() => "");
    await expect(checkList(list, "bob")).rejects.toMatchObject({ fault: "bad_device_list" });
  });

  it("is hashed in the order of the ids", async () => {
    const other = await Keyring.make(new MemoryStore(), { account: "bob", device: "dev_a" }, NOW_MS);
    const [one, two] = (await listOf(ring, other)).devices;
    if (one === undefined || two === undefined) throw new Error("no devices");
    expect(await listHash("r", [one, two])).toBe(await listHash("r", [two, one]));
  });
});

describe("a keyring", () => {
  it("renews its prekey after a week, keeps the one before for a week more, and is the same when loaded", async () => {
    const store = new MemoryStore();
    const name = { account: "alice", device: "dev_a" };
    const ring = await Keyring.make(store, name, NOW_MS);
    expect(await ring.renew(NOW_MS + PREKEY_RENEWED_MS - 1)).toBe(false);
    expect(await ring.renew(NOW_MS + PREKEY_RENEWED_MS)).toBe(true);
    expect(ring.prekeys).toEqual([1, 2]);
    expect(ring.registration.signed_prekey.id).toBe(2);
    const loaded = await Keyring.load(store, name);
    expect(loaded?.registration).toEqual(ring.registration);
    expect(await Keyring.load(store, { ...name, account: "bob" })).toBeNull();
    expect(await ring.renew(NOW_MS + PREKEY_KEPT_MS)).toBe(true);
    expect(ring.prekeys).toEqual([2, 3]);
    expect(ring.prekey(1)).toBeNull();
  });

  it("has private keys that cannot be exported", async () => {
    const ring = await Keyring.make(new MemoryStore(), { account: "alice", device: "dev_a" }, NOW_MS);
    for (const key of [ring.sign.private, ring.agree.private, ring.prekey(1)?.private]) {
      expect(key).toMatchObject({ type: "private", extractable: false });
    }
  });

  it("goes back to its own endorsement when that of another is of no use", async () => {
    const ring = await Keyring.make(new MemoryStore(), { account: "alice", device: "dev_a" }, NOW_MS);
    const { endorsement } = ring.registration;
    expect(await ring.endorseItself()).toBe(false);
    await ring.endorsed("another");
    expect(await ring.endorseItself()).toBe(true);
    expect(ring.registration.endorsement).toBe(endorsement);
  });
});

describe("a safety number", () => {
  const root = (byte: number): Uint8Array<ArrayBuffer> => new Uint8Array(32).fill(byte);

  it("is 60 digits, the same on both sides, and another for another root", async () => {
    const [alice, bob] = [{ account: "alice", root: root(1) }, { account: "bob", root: root(2) }];
    const number = await safetyNumber(alice, bob);
    expect(number).toMatch(/^\d{60}$/);
    expect(await safetyNumber(bob, alice)).toBe(number);
    expect(await safetyNumber(alice, { ...bob, root: root(3) })).not.toBe(number);
    expect(inGroups(number)).toHaveLength(12);
    expect(safetyText(number)).toBe(`tandem:safety:${number}`);
  });

  it("is no join code, which is twenty digits of both keys", async () => {
    const name = { account: "alice", device: "dev_a" };
    expect(await joinCode(name, root(1), root(2))).toMatch(/^\d{20}$/);
    // As tandem-seal has it.
    expect(await joinCode({ account: "al", device: "dev_a" }, new Uint8Array(32).fill(1), new Uint8Array(32).fill(2))).toBe("80740221315347833646");
    expect(await joinCode(name, root(1), root(2))).not.toBe(await joinCode(name, root(1), root(3)));
  });
});

describe("trust", () => {
  it("pins the root that it sees first, and takes another only when a person confirms it", async () => {
    const store = new MemoryStore();
    const make = (): Promise<Keyring> => Keyring.make(new MemoryStore(), { account: "bob", device: "dev_b" }, NOW_MS);
    const [before, after] = [await checkList(await listOf(await make()), "bob"), await checkList(await listOf(await make()), "bob")];
    const book = await TrustBook.load(store, "alice", () => undefined);
    await book.admit(before);
    await book.compared("bob", true);
    await expect(book.admit(after)).rejects.toMatchObject({ fault: "identity_changed" });
    expect(book.known("bob")).toMatchObject({ changed: true });
    const reloaded = await TrustBook.load(store, "alice", () => undefined);
    await expect(reloaded.admit(after)).rejects.toMatchObject({ fault: "identity_changed" });
    await reloaded.confirm("bob");
    await reloaded.admit(after);
    expect(reloaded.known("bob")).toMatchObject({ changed: false, compared: false, fresh: [] });
    await expect(reloaded.admit(before)).rejects.toMatchObject({ fault: "identity_changed" });
  });

  it("announces a device that was not there before, and one that an operator holds", async () => {
    const book = await TrustBook.load(new MemoryStore(), "alice", () => undefined);
    const ring = await Keyring.make(new MemoryStore(), { account: "bob", device: "dev_b" }, NOW_MS);
    const list = await checkList(await listOf(ring), "bob");
    await book.admit(list);
    expect(book.known("bob")).toMatchObject({ fresh: [], hosted: [] });
    const [device] = list.devices;
    if (device === undefined) throw new Error("no device");
    await book.admit({ ...list, devices: [device, { ...device, device: "dev_c", custody: "hosted" }] });
    expect(book.known("bob")).toMatchObject({ fresh: ["dev_c"], hosted: ["dev_c"] });
    book.seen("bob");
    expect(book.known("bob")?.fresh).toEqual([]);
    expect(book.known("carol")).toBeNull();
  });

  it("knows the safety number once both roots are seen", async () => {
    let told = (): void => undefined;
    const done = new Promise<void>((resolve) => (told = resolve));
    const ring = (account: string) => Keyring.make(new MemoryStore(), { account, device: `dev_${account}` }, NOW_MS);
    const [alice, bob] = [await ring("alice"), await ring("bob")];
    const book = await TrustBook.load(new MemoryStore(), "alice", () => {
      if (book?.safety("bob") != null) told();
    });
    await book.admit(await checkList(await listOf(bob), "bob"));
    expect(book.safety("bob")).toBeNull();
    await book.admit(await checkList(await listOf(alice), "alice"));
    book.safety("bob");
    await done;
    const number = await safetyNumber({ account: "bob", root: bob.sign.public }, { account: "alice", root: alice.sign.public });
    expect(book.safety("bob")).toBe(number);
  });
});

describe("two devices in a call", () => {
  let now_ms = NOW_MS;
  const stores = { alice: new MemoryStore(), bob: new MemoryStore() };
  const rings = {} as Record<"alice" | "bob", Keyring>;

  async function phone(account: "alice" | "bob"): Promise<Sealer> {
    const store = stores[account];
    const trust = await TrustBook.load(store, account, () => undefined);
    const devices = async (of: string): Promise<DeviceList> => listOf(...(of === "alice" || of === "bob" ? [rings[of]] : []));
    return new Sealer({ store, ring: rings[account], trust, devices, now_ms: () => now_ms });
  }

  const of = (account: "alice" | "bob") => ({ account, device: `dev_${account}` });

  beforeEach(async () => {
    now_ms = NOW_MS;
    for (const account of ["alice", "bob"] as const) {
      stores[account] = new MemoryStore();
      rings[account] = await Keyring.make(stores[account], of(account), now_ms);
    }
  });

  async function offered(): Promise<{ a: Sealer; b: Sealer; offer: Uint8Array }> {
    const [a, b] = [await phone("alice"), await phone("bob")];
    const { offers, notes } = await a.dial("bob", said("offer"), said("note"));
    expect([...notes.keys()]).toEqual(["dev_bob"]);
    const offer = offers.get("dev_bob");
    if (offer === undefined) throw new Error("no offer");
    await a.named(CALL);
    return { a, b, offer };
  }

  it("say things to each other in order, over a reload of either, and nothing twice", async () => {
    const { a, b, offer } = await offered();
    expect(await b.openOffer(CALL, of("alice"), offer)).toEqual(said("offer"));
    const answer = await b.seal(CALL, of("alice"), said("answer"));
    await a.talk(CALL, of("bob"), "caller");
    expect(await a.open(CALL, of("bob"), answer)).toEqual(said("answer"));
    await expect(a.open(CALL, of("bob"), answer)).rejects.toMatchObject({ fault: "replayed" });
    const first = await a.seal(CALL, of("bob"), said("1"));
    const reloaded = await phone("alice");
    const second = await reloaded.seal(CALL, of("bob"), said("2"));
    expect([sessionNumber(first), sessionNumber(second)]).toEqual([1, 2]);
    const b_reloaded = await phone("bob");
    expect(await b_reloaded.open(CALL, of("alice"), second)).toEqual(said("2"));
    await expect(b_reloaded.open(CALL, of("alice"), first)).rejects.toMatchObject({ fault: "replayed" });
    await expect(reloaded.open(CALL, of("bob"), answer)).rejects.toMatchObject({ fault: "replayed" });
  });

  it("open the same offer again to the same session, and not with another call", async () => {
    const { a, b, offer } = await offered();
    await b.openOffer(CALL, of("alice"), offer);
    await b.seal(CALL, of("alice"), said("1"));
    await b.openOffer(CALL, of("alice"), offer);
    expect(sessionNumber(await b.seal(CALL, of("alice"), said("2")))).toBe(2);
    await expect(b.openOffer("call_other", of("alice"), offer)).rejects.toMatchObject({ fault: "replayed" });
    await expect(a.open("call_other", of("bob"), concat(Uint8Array.of(1, 2), u32(1), new Uint8Array(32)))).rejects.toMatchObject({ fault: "no_session" });
  });

  it("keep a number that is sent at the same time as another apart", async () => {
    const { b, offer } = await offered();
    await b.openOffer(CALL, of("alice"), offer);
    const blobs = await Promise.all(["1", "2", "3"].map((text) => b.seal(CALL, of("alice"), said(text))));
    expect(blobs.map(sessionNumber)).toEqual([1, 2, 3]);
  });

  it("have nothing half-open after an offer that does not hold", async () => {
    const { b, offer } = await offered();
    const changed = offer.slice();
    changed[60] = (changed[60] ?? 0) ^ 1;
    await expect(b.openOffer(CALL, of("alice"), changed)).rejects.toMatchObject({ fault: "forged" });
    await expect(b.openOffer(CALL, { account: "alice", device: "dev_x" }, offer)).rejects.toMatchObject({ fault: "bad_device_list" });
    await expect(b.talk(CALL, of("alice"), "callee")).rejects.toMatchObject({ fault: "no_session" });
    now_ms += PREKEY_KEPT_MS;
    expect(await b.renew()).toBe(true);
    await expect(b.openOffer(CALL, of("alice"), offer)).rejects.toMatchObject({ fault: "unknown_prekey" });
  });

  it("find the session of a call whose name did not reach the page before it was reloaded", async () => {
    const a = await phone("alice");
    await a.dial("bob", said("offer"), said("note"));
    const reloaded = await phone("alice");
    await reloaded.talk(CALL, of("bob"), "caller");
    expect(sessionNumber(await reloaded.seal(CALL, of("bob"), said("1")))).toBe(1);
  });

  it("forget the session when the call is over, and one that must be", async () => {
    const { a, b, offer } = await offered();
    await b.openOffer(CALL, of("alice"), offer);
    await b.forget(CALL);
    await expect(b.seal(CALL, of("alice"), said("1"))).rejects.toMatchObject({ fault: "no_session" });
    now_ms += SESSION_KEPT_MS + 1;
    await a.renew();
    await expect(a.seal(CALL, of("bob"), said("1"))).rejects.toMatchObject({ fault: "no_session" });
  });
});

describe("the faults", () => {
  it("are a closed set", () => {
    expect([isSealFault("forged"), isSealFault("not_found")]).toEqual([true, false]);
    expect(toBase64(fromBase64("AA=="))).toBe("AA==");
  });
});
