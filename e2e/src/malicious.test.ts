// A server that lies: whatever it says of an account's devices, and whatever it does to what two phones seal for each other, it
// comes to a refusal that a person sees, and never to a call.

import type { Browser } from "playwright-core";
import type { SealCause } from "tandem-web/phone";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { launchChromium } from "./harness/chromium.ts";
import { type Device, type DeviceList, flipped, hashed, Impostor } from "./harness/forgery.ts";
import { Liar } from "./harness/liar.ts";
import { outFolder } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";

const SOON = { timeout_ms: 10_000 };

let out: string;
let dev: TandemDev;
let browser: Browser;
const open: Phone[] = [];
let next = 0;

beforeAll(async () => {
  out = await outFolder("malicious");
  dev = await TandemDev.start(out);
  browser = await launchChromium();
});

afterEach(async ({ task }) => {
  if (task.result?.state === "fail") {
    const folder = await outFolder("malicious/failed");
    for (const phone of open) {
      await phone.picture(folder, `${slug(task.name)}-${phone.name}`).catch(() => undefined);
      console.log(phone.name, JSON.stringify(await phone.page.evaluate(() => window.phone.events().slice(-40)).catch(String)));
    }
  }
  for (const phone of open.splice(0)) await phone.close();
});

afterAll(async () => {
  await browser?.close();
  await dev?.stop();
});

interface LiedTo {
  phone: Phone;
  liar: Liar;
}

/** Two accounts that no other test has, and for each a liar, honest at first. */
async function two(): Promise<{ a: Phone; b: Phone; toA: Liar; toB: Liar }> {
  next += 1;
  const [a, b] = [await liedTo(`alice${next}`), await liedTo(`bob${next}`)];
  return { a: a.phone, b: b.phone, toA: a.liar, toB: b.liar };
}

async function liedTo(account: string): Promise<LiedTo> {
  const liar = await Liar.between(browser);
  const phone = await Phone.open(browser, dev.page, account, { context: liar.context });
  open.push(phone);
  return { phone, liar };
}

/** Each has heard of the other once: alice has called, and has given up. */
async function acquainted(): Promise<{ a: Phone; b: Phone; toA: Liar; toB: Liar }> {
  const all = await two();
  const { a, b } = all;
  await a.calls(b.name);
  await b.shows("incoming");
  await a.click("cancel");
  await b.ends("cancelled");
  await b.home();
  return all;
}

async function talking(): Promise<{ a: Phone; b: Phone; toA: Liar; toB: Liar }> {
  const all = await two();
  const { a, b } = all;
  await a.calls(b.name);
  await b.shows("incoming");
  await b.click("accept");
  await Promise.all([a.talks(), b.talks()]);
  return all;
}

/** How often the phone's log has this line. */
function logged(phone: Phone, line: string): Promise<number> {
  return phone.page.evaluate(
    (wanted: string) => window.phone.events().filter(({ name, detail }) => `${name} ${detail}`.trim() === wanted).length,
    line,
  );
}

function logs(phone: Phone, line: string, times: number): Promise<unknown> {
  return until(`${phone.name} logs ${times} times: ${line}`, SOON, async () => (await logged(phone, line)) === times);
}

/** How often the phone has ever rung, and been connected with anybody. */
async function happened(phone: Phone): Promise<{ rings: number; connections: number }> {
  return { rings: await logged(phone, "do ringing"), connections: await logged(phone, "media_up") };
}

const NOTHING = { rings: 0, connections: 0 };

/** What both sides' connections are made with: another after each ICE restart. */
function ufrags(phone: Phone): Promise<string[]> {
  return phone.page.evaluate(() => {
    const { localDescription, remoteDescription } = window.phone.pc() ?? {};
    return [localDescription, remoteDescription].map((side) => /^a=ice-ufrag:(.*)$/m.exec(side?.sdp ?? "")?.[1]?.trim() ?? "none");
  });
}

/** What a call has come to that a signal, or the answer, could have brought about. */
async function doings(phone: Phone) {
  return {
    ...(await happened(phone)),
    ufrags: await ufrags(phone),
    answers: await logged(phone, "signal answer"),
    offers: await logged(phone, "signal restart-offer"),
    restarts: await logged(phone, "restart ticket"),
  };
}

/** The digits that stand on the screen, once they are worked out. */
function digits(phone: Phone): Promise<string> {
  return until(`${phone.name} sees a safety number`, SOON, async () => {
    const text = (await phone.page.locator('[data-testid="safety"]:visible li').allTextContents()).join("");
    return /^\d{60}$/.test(text) && text;
  });
}

/** The same of somebody whom the phone looks up on its home screen. */
async function looksUp(phone: Phone, peer: string, picture?: string): Promise<string> {
  await phone.page.fill('[data-testid="callee"]', peer);
  await phone.click("safety-number");
  const number = await digits(phone);
  if (picture !== undefined) await phone.pictures(out, picture);
  await phone.click("safety-close");
  return number;
}

function status(phone: Phone, text: string): Promise<unknown> {
  return until(`${phone.name} shows: ${text}`, SOON, async () => (await phone.page.textContent('[data-testid="status"]')) === text);
}

function slug(text: string): string {
  return text.replaceAll(/[^a-z]+/gi, "-").slice(0, 50);
}

const mallory = new Impostor();

/** Every device changed like this, and the list's hash made to fit. */
function each(change: (device: Device, account: string) => Device): (real: DeviceList) => DeviceList {
  return (real) => hashed({ ...real, devices: real.devices.map((device) => change(device, real.account)) });
}

const LISTS: [string, (real: DeviceList) => DeviceList][] = [
  ["another agree key", each((device) => ({ ...device, identity: { ...device.identity, agree: mallory.agree } }))],
  ["another sign key", each((device) => ({ ...device, identity: { ...device.identity, sign: mallory.root } }))],
  ["another prekey under the same signature", each((device) => ({ ...device, signed_prekey: { ...device.signed_prekey, key: mallory.prekey } }))],
  [
    "another prekey that somebody else signed",
    each((device, account) => {
      const { id } = device.signed_prekey;
      const signature = mallory.signPrekey(account, device.device, id);
      return { ...device, signed_prekey: { id, key: mallory.prekey, signature } };
    }),
  ],
  ["another custody", each((device) => ({ ...device, custody: "hosted" }))],
  ["no endorsement", each((device) => ({ ...device, endorsement: null }))],
  [
    "one device more",
    (real) => hashed({ ...real, devices: [...real.devices, ...real.devices.map((one) => mallory.instead(real.account, { ...one, device: "dev_more" }))] }),
  ],
  ["another root over the same devices", (real) => hashed({ ...real, root: mallory.root })],
  ["the hash of another list", (real) => ({ ...real, list_hash: mallory.list(real).list_hash })],
  ["changed keys under the old hash", (real) => ({ ...mallory.list(real), list_hash: real.list_hash })],
];

test.each(LISTS)("a list of devices with %s is void: nothing is posted, and nobody rings", async (lie, list) => {
  const { a, b, toA } = await two();
  toA.lieAbout(b.name, list);
  await a.calls(b.name);
  await a.ends("bad-device-list");
  await a.picture(out, `list-${slug(lie)}`);
  expect(toA.asks("calls")).toEqual([]);
  expect(await happened(a)).toEqual(NOTHING);
  // It was the lie and nothing else; and whatever had come to bob before this call would have come by now.
  toA.beHonest();
  await a.home();
  await a.calls(b.name);
  await b.shows("incoming");
  expect(toA.asks("calls")).toHaveLength(1);
  expect(await logged(b, "push call.offer")).toBe(1);
});

test("another account's list in bob's name is void", async () => {
  const { a, b, toA } = await two();
  // It holds in itself, and its hash says nothing of whose it is: only its endorsements do.
  const hers = await until("alice has asked for her own devices", SOON, async () => toA.lists.get(a.name) ?? null);
  toA.lieAbout(b.name, () => ({ ...hers, account: b.name }));
  await a.calls(b.name);
  await a.ends("bad-device-list");
  await a.pictures(out, "list-of-another-account");
  expect(toA.asks("calls")).toEqual([]);
  expect(await happened(b)).toEqual(NOTHING);
});

test("a caller whose list of devices does not hold does not ring", async () => {
  const { a, b, toB } = await two();
  toB.lieAbout(a.name, each((device) => ({ ...device, identity: { ...device.identity, agree: mallory.agree } })));
  await a.calls(b.name);
  await b.ends("bad-device-list");
  await b.pictures(out, "list-of-the-caller");
  await a.ends("busy");
  expect([await happened(a), await happened(b)]).toEqual([NOTHING, NOTHING]);
});

test("an account under another root waits to be confirmed, and its safety number is not bob's", async () => {
  const { a, b, toA } = await acquainted();
  const [seenByA, seenByB] = [await looksUp(a, b.name), await looksUp(b, a.name)];
  expect(seenByA).toBe(seenByB);

  toA.lieAbout(b.name, (real) => mallory.list(real));
  await a.calls(b.name);
  await a.shows("identity");
  const shown = await digits(a);
  await a.pictures(out, "identity-of-the-callee");
  expect(shown).not.toBe(seenByB);
  expect(toA.asks("calls")).toHaveLength(1);
  await a.click("home");
  await a.shows("home");

  // Bob's own root is still the one that alice knows.
  toA.beHonest();
  await a.calls(b.name);
  await b.shows("incoming");
  expect(toA.asks("calls")).toHaveLength(2);
  expect(await logged(b, "push call.offer")).toBe(2);
});

test("an account under another root that alice confirms is still not bob, and bob does not ring", async () => {
  const { a, b, toA } = await acquainted();
  toA.lieAbout(b.name, (real) => mallory.list(real));
  await a.calls(b.name);
  await a.shows("identity");
  await a.click("confirm-identity");
  await b.ends("forged");
  await b.pictures(out, "identity-confirmed-callee");
  await a.ends("busy");
  await a.pictures(out, "identity-confirmed-caller");
  expect(await happened(a)).toEqual(NOTHING);
  expect(await happened(b)).toEqual({ rings: 1, connections: 0 });
});

test("a caller under another root does not ring before a person has confirmed it", async () => {
  const { a, b, toB } = await acquainted();
  const seenByA = await looksUp(a, b.name);
  toB.lieAbout(a.name, (real) => mallory.list(real));
  await a.calls(b.name);
  await b.shows("identity");
  expect(await digits(b)).not.toBe(seenByA);
  await b.pictures(out, "identity-of-the-caller");
  await b.click("home");
  await a.ends("declined");
  expect(await happened(b)).toEqual({ rings: 1, connections: 0 });
});

test("two phones show the same safety number, and two numbers when somebody stands between them", async () => {
  const honest = await two();
  const same = await looksUp(honest.a, honest.b.name, "safety-alice");
  expect(await looksUp(honest.b, honest.a.name, "safety-bob")).toBe(same);

  const { a, b, toA, toB } = await two();
  toA.lieAbout(b.name, (real) => mallory.list(real));
  toB.lieAbout(a.name, (real) => mallory.list(real));
  const seenByA = await looksUp(a, b.name, "safety-alice-with-somebody-between");
  const seenByB = await looksUp(b, a.name, "safety-bob-with-somebody-between");
  expect(seenByA).not.toBe(seenByB);
  // Who stood between them from the start cannot leave without being noticed.
  toA.beHonest();
  await a.calls(b.name);
  await a.shows("identity");
  expect(await digits(a)).not.toBe(seenByA);
});

const OFFERS: [string, number, SealCause][] = [
  ["version", 0, "malformed"],
  ["kind", 1, "malformed"],
  ["prekey's id", 5, "unknown-prekey"],
  ["nonce", 6, "forged"],
  ["ephemeral key", 22, "forged"],
  ["ciphertext", 54, "forged"],
  ["tag", -1, "forged"],
];

test.each(OFFERS)("an offer whose %s was changed on the way does not ring", async (part, at, cause) => {
  const { a, b, toA } = await two();
  toA.change("calls", (sealed) => flipped(sealed, at));
  await a.calls(b.name);
  await b.ends(cause);
  await b.picture(out, `offer-${slug(part)}-callee`);
  await a.ends("busy");
  await a.picture(out, `offer-${slug(part)}-caller`);
  expect([await happened(a), await happened(b)]).toEqual([NOTHING, NOTHING]);
});

test("another call's offer, sent again with this call, does not ring", async () => {
  const { a, b, toA } = await acquainted();
  const [old] = toA.asks("calls");
  if (typeof old !== "object") throw new Error("alice's first call had no offers");
  toA.change("calls", () => Object.values(old)[0] ?? "");
  await a.calls(b.name);
  await b.ends("replayed");
  await b.pictures(out, "offer-replayed");
  await a.ends("busy");
  expect(await happened(b)).toEqual({ rings: 1, connections: 0 });
});

test("an old offer that the server tells as a call of its own making does not ring", async () => {
  const { b, toB } = await acquainted();
  const [old] = toB.pushes("call.offer");
  if (old === undefined) throw new Error("nobody has ever called bob");
  toB.replay({ ...old, call_id: "call_of_nobody" });
  await b.ends("replayed");
  expect(await happened(b)).toEqual({ rings: 1, connections: 0 });
});

const ANSWERS: [string, number, SealCause][] = [
  ["version", 0, "malformed"],
  ["kind", 1, "malformed"],
  ["sequence number (its first byte)", 2, "forged"],
  ["sequence number (its last byte)", 5, "replayed"],
  ["ciphertext (its first byte)", 6, "forged"],
  ["ciphertext (in the middle)", 200, "forged"],
  ["tag", -1, "forged"],
];

test.each(ANSWERS)("an answer whose %s was changed on the way ends the call before it begins", async (part, at, cause) => {
  const { a, b, toB } = await two();
  toB.change("accept", (sealed) => flipped(sealed, at));
  await a.calls(b.name);
  await b.shows("incoming");
  await b.click("accept");
  await a.ends(cause);
  await a.picture(out, `answer-${slug(part)}-caller`);
  await b.ends("hung-up");
  await b.picture(out, `answer-${slug(part)}-callee`);
  expect(await happened(a)).toEqual(NOTHING);
  expect(await happened(b)).toEqual({ rings: 1, connections: 0 });
});

test("the answer of the call before ends the call before it begins", async () => {
  const { a, b, toB } = await talking();
  await a.click("hang-up");
  await b.ends("hung-up");
  await Promise.all([a.home(), b.home()]);
  const before = await happened(a);
  expect(before.connections).toBeGreaterThan(0);

  const [old] = toB.asks("accept");
  toB.change("accept", () => String(old));
  await a.calls(b.name);
  await b.shows("incoming");
  await b.click("accept");
  await a.ends("forged");
  await a.pictures(out, "answer-of-the-call-before");
  await b.ends("hung-up");
  expect(await happened(a)).toEqual(before);
});

test("what was said in a call, told again, is refused, and changes nothing in it", async () => {
  const { a, b, toA, toB } = await talking();
  const before = await ufrags(b);
  // A new connection of the network: alice restarts ICE, which is the most that a signal can do.
  await a.page.evaluate(() => window.dispatchEvent(new Event("online")));
  await logs(a, "signal answer", 2);
  await Promise.all([a.talks(), b.talks()]);
  const made = { a: await doings(a), b: await doings(b) };
  expect(made.b.ufrags).not.toEqual(before);
  expect(made.b).toMatchObject({ rings: 1, offers: 1 });

  for (const liar of [toA, toB]) {
    for (const type of ["call.offer", "call.accepted", "call.signal"]) for (const push of liar.pushes(type)) liar.replay(push);
  }
  const [toldA, toldB] = [toA.pushes("call.signal").length, toB.pushes("call.signal").length];
  expect(Math.min(toldA, toldB)).toBeGreaterThan(1);
  await logs(a, "negotiation replayed", toldA);
  await logs(b, "negotiation replayed", toldB);

  await Promise.all([a.talks(), b.talks()]);
  await b.picture(out, "signals-replayed");
  expect({ a: await doings(a), b: await doings(b) }).toEqual(made);
  expect([await logged(a, "negotiation replayed"), await logged(b, "negotiation replayed")]).toEqual([toldA, toldB]);
});

test("of two signals in the wrong order the older is refused, and the newer stands", async () => {
  const { a, b, toA, toB } = await talking();
  await until("all that alice has said is told", SOON, async () => toA.asks("signal").length === toB.pushes("call.signal").length);
  const swapped = toB.swapSignals();
  await a.click("mute");
  await a.click("mute");
  await swapped;
  await logs(b, "negotiation replayed", 1);
  await status(b, "Connected");
  await b.picture(out, "signals-reordered");
  // It hears on.
  await a.click("mute");
  await status(b, `${a.name} is muted`);
  expect(await logged(b, "signal media")).toBe(2);
  expect(await logged(b, "negotiation replayed")).toBe(1);
});

test("a signal that was changed on the way is not heard, and the call goes on", async () => {
  const { a, b, toA } = await talking();
  toA.change("signal", (sealed) => flipped(sealed, -1));
  await a.click("mute");
  await logs(b, "negotiation forged", 1);
  await status(b, "Connected");
  await b.picture(out, "signal-forged");
  toA.beHonest();
  await a.click("mute");
  await logs(b, "signal media", 1);
  await Promise.all([a.talks(), b.talks()]);
  expect(await logged(b, "negotiation forged")).toBe(1);
});
