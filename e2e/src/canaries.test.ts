// What only some may know is nowhere else: two calls of real browsers, with every process at its most talkative, and then a
// search for what was in their SDP, for names, tokens, tickets and addresses. tests/canaries.rs does it with the SDK, and for
// what devices seal with, and for panics.

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePorts, pageProcesses, type Places, type Report, Searcher, Told, Words } from "./harness/canaries.ts";
import { launchChromium } from "./harness/chromium.ts";
import { outFolder } from "./harness/paths.ts";
import { Phone } from "./harness/phone.ts";
import { type Process, TandemDev } from "./harness/tandem-dev.ts";
import { until } from "./harness/until.ts";

/** Only root may listen to the network, and look into the memory of processes that are not its own children. */
const ROOT = process.getuid?.() === 0;
const ROLES: Process["name"][] = ["state-server", "relay", "signaling", "router"];
const memories = (...of: string[]) => of.map((one) => `memory of ${one}`);
const wires = (...of: string[]) => of.map((one) => `wire to ${one}`);
/** The pages themselves, in whose memory all of it is: that is how it is known to be spelled as it is looked for. */
const PAGE = "memory of a page";

interface Kind {
  /** Where it is found: that the search finds what is there, and looks at what it says it looks at. */
  is: string[];
  /** Where it may be too. Everywhere else it must not be. */
  may?: string[];
}

const KINDS: Record<string, Kind> = {
  // Control: what every log and every page of metrics says.
  "a name of ours": {
    is: ["log", ...ROLES.map((role) => `metrics of ${role}`)],
    may: [...memories(...ROLES, "dev"), ...wires("store"), PAGE],
  },
  // Sealed from page to page, and on the media path never said: a fingerprint is a hash of what the DTLS handshake shows, an ICE
  // password only signs, RTCP is encrypted.
  "the ICE password of an SDP": { is: [PAGE] },
  "the fingerprint of an SDP": { is: [PAGE] },
  "the session of an SDP": { is: [PAGE] },
  "the sources and streams of an SDP": { is: [PAGE] },
  "a candidate of an SDP": { is: [PAGE] },
  "the ICE user name of an SDP": { is: [PAGE] },
  // Both sides' user names together are what STUN says in clear (RFC 8445 section 7.2.2), from browser to browser, so through the
  // relay.
  "ICE user names as STUN says them": { is: wires("relay"), may: [...memories("relay"), PAGE] },
  // The control plane knows who calls whom, and the relay loads a call by its record; no packet says it. The demo's page has
  // the account in its address.
  "a name": {
    is: ["kept/state.redb", "kept/devices.redb", ...memories("state-server", "signaling", "router"), ...wires("store", "signaling", "router")],
    may: [...memories("relay", "dev"), ...wires("page"), PAGE],
  },
  // From its device to those who ask for it, and no further.
  "a token": { is: wires("signaling", "router"), may: [...memories("signaling", "router"), PAGE] },
  // TURN says it in clear. Signaling makes it, the relay reads it.
  "the user name of a ticket": { is: wires("signaling", "relay"), may: [...memories("signaling", "relay"), PAGE] },
  // Told to its device alone; both ends compute it.
  "the password of a ticket": { is: wires("signaling"), may: [...memories("signaling", "relay"), PAGE] },
  // Counted by where they come from, in memory.
  "where requests come from": { is: [], may: [...memories("signaling"), PAGE] },
  "where connections come from": { is: [], may: [...memories("router"), PAGE] },
  // A record, which outlives the relay that wrote it; signaling and router follow the store.
  "where packets come from": {
    is: ["kept/state.redb", ...memories("state-server"), ...wires("store")],
    may: [...memories("relay", "signaling", "router"), PAGE],
  },
};

let out: string;
let dev: TandemDev;
let browser: Browser;
let searcher: Searcher;
let admins: number[];
/** Of all that listens: an address with such a port is no client's. */
let listening: Set<number>;

beforeAll(async () => {
  out = await outFolder("canaries");
  admins = await freePorts(ROLES.length);
  const settings = ROLES.flatMap((role, n) => [`${role}.admin=127.0.0.1:${admins[n]}`, `${role}.log.filter=trace`]);
  dev = await TandemDev.start(out, settings.flatMap((setting) => ["--set", setting]));
  const port = (url: string) => Number(new URL(url).port);
  const config = await readFile(path.join(dev.ready.data_dir, "relay.toml"), "utf8");
  const store = /endpoint = "([^"]+)"/.exec(config)?.[1] ?? "";
  const { api, connect, page, turn } = dev.ready;
  const tcp = { store: port(store), signaling: port(api), router: port(connect), page: port(page) };
  const udp = { relay: Number(turn.split(":").at(-1)) };
  listening = new Set([...Object.values(tcp), ...Object.values(udp), ...admins]);
  searcher = await Searcher.start({ tcp, udp });
  browser = await launchChromium();
});

afterAll(async () => {
  await browser?.close();
  searcher?.stop();
  await dev?.stop();
});

test("what is in a browser's SDP, names, tokens, tickets and addresses are where they must be and nowhere else", async () => {
  expect(searcher.listens).toBe(ROOT);
  const words = new Words();
  words.add("a name of ours", "tandem_panics_total", "tandem::role");
  const drawn = (name: string) => `canary-${name}-${randomBytes(6).toString("hex")}`;
  const contexts = await Promise.all([browser.newContext(), browser.newContext()]);
  const told = contexts.map((context) => new Told(context));
  const [alice, bob] = [drawn("alice"), drawn("bob")];
  const a = await Phone.open(browser, dev.page, alice, { context: contexts[0]! });
  const b = await Phone.open(browser, dev.page, bob, { context: contexts[1]! });

  // A missed call; a call through the relay with another ICE in its middle; and one in which they say their own addresses.
  await a.calls(bob);
  await b.shows("incoming");
  await a.click("cancel");
  await b.ends("cancelled");
  await Promise.all([a.home(), b.home()]);

  await talk(a, b);
  const first = await gather(words, a, b);
  await a.page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until("another ICE on both sides", { timeout_ms: 15_000 }, async () => {
    const now = await Promise.all([a, b].map(localSdp));
    return now.every((sdp, side) => ufrag(sdp) !== ufrag(first[side]!));
  });
  await Promise.all([a.talks(), b.talks()]);
  await gather(words, a, b);
  await a.click("mute");
  await a.click("hang-up");
  await Promise.all([a.ends("hung-up"), b.ends("hung-up")]);
  await Promise.all([a.home(), b.home()]);

  for (const phone of [a, b]) await phone.page.uncheck('[data-testid="always-relay"]', { force: true });
  await talk(b, a);
  const [own] = await gather(words, a, b);
  expect(own).toMatch(/typ host/);

  const devices = await Promise.all([a, b].map(async (phone) => (await phone.state()).device ?? ""));
  words.add("a name", alice, bob, ...devices);
  for (const { tokens, tickets } of await Promise.all(told.map((one) => one.all()))) {
    expect(tokens.size).toBeGreaterThan(0);
    expect(tickets.length).toBeGreaterThan(1);
    // Whole, and its claims and its signature by themselves. Its first part is the same in every token.
    for (const token of tokens) words.add("a token", token, ...token.split(".").slice(1));
    for (const { username, credential } of tickets) {
      // Its last part names the leg.
      words.add("the user name of a ticket", username, username.split(".").at(-1)!);
      words.add("the password of a ticket", credential);
    }
  }
  const heard = await searcher.look(words, {});
  expect(heard.gaps, "what was not heard was not searched").toBe(0);
  for (const [place, kind] of [
    ["signaling", "where requests come from"],
    ["router", "where connections come from"],
    ["relay", "where packets come from"],
  ] as const) {
    const clients = (heard.clients?.[`wire to ${place}`] ?? []).filter((client) => !listening.has(Number(client.split(":").at(-1))));
    expect(clients.length).toBeGreaterThan(ROOT ? 0 : -1);
    words.add(kind, ...clients);
  }

  const running = await searcher.look(words, await places());
  const pages = await inPages(words);
  await a.click("hang-up");
  await b.ends("hung-up");
  // What is said and kept at the end, too.
  await dev.end();
  const ended = await searcher.look(words, { files: { log: path.join(out, "tandem-dev.log"), kept: dev.ready.data_dir } });
  expect(ended.looked["log"]).toBeGreaterThan(1_000_000);
  if (ROOT) for (const role of ROLES) expect(running.looked[`memory of ${role}`]).toBeGreaterThan(1_000_000);
  const looked = new Set([running, pages, ended].flatMap((report) => Object.keys(report.looked)));
  for (const [kind, { is, may = [] }] of Object.entries(KINDS)) {
    if (ROOT) expect(words.text.has(kind), `there is ${kind}`).toBe(true);
    if (ROOT) expect([...is, ...may].filter((place) => !looked.has(place)), "not looked at").toEqual([]);
    if (!words.text.has(kind)) continue;
    // Never with what was found: it might be a secret.
    const places = [...new Set([running, pages, ended].flatMap((report) => report.found[kind] ?? []))];
    expect(places.filter((place) => ![...is, ...may].includes(place)), `${kind} is where it must not be`).toEqual([]);
    expect(is.filter((place) => looked.has(place) && !places.includes(place)), `${kind} is not found where it is`).toEqual([]);
  }
  expect([...a.complaints, ...b.complaints]).toEqual([]);
});

async function talk(caller: Phone, callee: Phone): Promise<void> {
  await caller.calls(callee.name);
  await callee.shows("incoming");
  await callee.click("accept");
  await Promise.all([caller.talks(), callee.talks()]);
}

/** What a page has told the other one of itself, once it knows all of it. */
function localSdp(phone: Phone): Promise<string> {
  return until(`${phone.name} has all of its candidates`, { timeout_ms: 20_000 }, () =>
    phone.page.evaluate(() => {
      const pc = window.phone.pc();
      return pc?.iceGatheringState === "complete" && (pc.localDescription?.sdp ?? null);
    }),
  );
}

function ufrag(sdp: string): string {
  return /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1] ?? "";
}

/** Takes from both sides' SDP whatever is theirs alone. */
async function gather(words: Words, a: Phone, b: Phone): Promise<string[]> {
  const sdps = await Promise.all([a, b].map(localSdp));
  for (const sdp of sdps) fromSdp(words, sdp);
  const [ours, theirs] = sdps.map(ufrag);
  words.add("ICE user names as STUN says them", `${ours}:${theirs}`, `${theirs}:${ours}`);
  return sdps;
}

function fromSdp(words: Words, sdp: string): void {
  const all = (pattern: RegExp) => [...sdp.matchAll(pattern)].map((match) => match[1] ?? "");
  const some = (kind: string, found: string[]) => {
    expect(found.length, kind).toBeGreaterThan(0);
    words.add(kind, ...found);
  };
  some("the ICE password of an SDP", all(/^a=ice-pwd:(\S{22,})/gm));
  const fingerprints = all(/^a=fingerprint:sha-256 ([0-9A-F:]{95})/gm);
  some("the fingerprint of an SDP", fingerprints);
  for (const fingerprint of fingerprints) {
    words.add("the fingerprint of an SDP", fingerprint.toLowerCase());
    words.addBytes("the fingerprint of an SDP", fingerprint.replaceAll(":", "").toLowerCase());
  }
  some("the session of an SDP", all(/^o=\S+ (\d{9,})/gm));
  // Four characters alone stand somewhere by chance, and so does a number that is short.
  some("the ICE user name of an SDP", [...all(/^a=(ice-ufrag:\S+)/gm), ...all(/^a=candidate:.* (ufrag \S+)/gm)]);
  some("the sources and streams of an SDP", [
    ...all(/^a=ssrc:(\d{9,}) /gm),
    ...all(/^a=(ssrc:\d+) /gm).filter((source) => source.length >= 12),
    ...all(/^a=ssrc:\d+ cname:(\S{8,})/gm),
    ...all(/^a=msid:\S+ (\S{8,})/gm),
    ...all(/^a=msid:(\S{8,}) /gm),
  ]);
  // The whole of it, and address and port as SDP spells them. TCP candidates have no port of their own.
  some("a candidate of an SDP", all(/^a=(candidate:.* typ \w+)/gm));
  words.add("a candidate of an SDP", ...all(/^a=candidate:\S+ \d+ \S+ \d+ (\S+ \d{4,}) typ/gm));
}

async function places(): Promise<Places> {
  const memory: Record<string, number> = {};
  for (const { name, pid } of await dev.processes()) memory[`memory of ${name}`] = pid ?? 0;
  memory["memory of dev"] = dev.pid;
  const texts: Record<string, string> = {};
  for (const [n, role] of ROLES.entries()) {
    texts[`metrics of ${role}`] = await (await fetch(`http://127.0.0.1:${admins[n]}/metrics`)).text();
  }
  return { memory, texts, files: { log: path.join(out, "tandem-dev.log"), kept: dev.ready.data_dir } };
}

/** Looks at one page's process after another until all is found that must be in them: they are large. */
async function inPages(words: Words): Promise<Report> {
  let report: Report | undefined;
  for (const pid of await pageProcesses()) {
    report = await searcher.look(words, { memory: { [PAGE]: pid } });
    const { found, looked } = report;
    if (!ROOT && !(PAGE in looked)) return report;
    if (Object.entries(KINDS).every(([kind, { is }]) => !is.includes(PAGE) || found[kind]?.includes(PAGE))) return report;
  }
  throw new Error(`not in the browsers' own memory: ${JSON.stringify(report?.found)}`);
}
