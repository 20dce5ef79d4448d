// The phone: every way in which a call between two people goes, in Chromium, through all five processes.

import { expect, test } from "vitest";
import { launchChromium } from "./harness/chromium.ts";
import { Phone } from "./harness/phone.ts";
import { PLACING, refusesCalls, says, stage } from "./harness/stage.ts";
import { until } from "./harness/until.ts";

const here = stage("phone");
const { names, phone, talking } = here;

test("a call rings, is answered, talks through the relay, is muted, and is hung up", async () => {
  const { alice, bob } = names();
  const a = await phone(alice);
  const b = await phone(bob);
  await a.pictures(here.out, "01-home");
  await b.pictures(here.out, "02-home-of-bob");
  await a.calls(bob);
  await b.shows("incoming");
  await until("the caller sees that it rings", { timeout_ms: 5_000 }, async () => (await a.state()).call?.phase === "ringing");
  await a.pictures(here.out, "03-outgoing");
  await b.pictures(here.out, "04-incoming");
  await b.click("accept");
  const [seenByA] = await Promise.all([a.talks(), b.talks()]);
  expect(seenByA.pair).toBe("relay <-> relay");
  await a.pictures(here.out, "05-call");
  await b.pictures(here.out, "06-call-of-bob");

  // The fake microphone beeps once a second.
  const comes = async () => {
    const before = await b.media();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const after = await b.media();
    if (before === null || after === null || after.audio_packets === before.audio_packets) return null;
    return { sound: after.audio_energy - before.audio_energy > 1e-7, pictures: after.frames > before.frames };
  };
  const only = (what: string, wanted: { sound: boolean; pictures: boolean }) =>
    until(what, { timeout_ms: 15_000 }, async () => JSON.stringify(await comes()) === JSON.stringify(wanted));
  await a.click("mute");
  await only("pictures come, and no sound", { sound: false, pictures: true });
  await a.click("camera");
  await only("nothing comes", { sound: false, pictures: false });
  await a.pictures(here.out, "07-muted");
  await a.click("mute");
  await only("sound comes, and no pictures", { sound: true, pictures: false });
  await a.click("mute");
  // The microphone is switched while the camera opens, which is asked for twice: each is as it was asked for last.
  await a.page.evaluate(() => {
    const click = (id: string) => document.querySelector<HTMLButtonElement>(`[data-testid="${id}"]`)?.click();
    ["camera", "camera", "mute"].forEach(click);
  });
  await b.talks();
  expect(await a.page.textContent('[data-testid="mute"]')).toBe("Mute");
  await says(b, "Connected");
  await a.click("hang-up");
  await a.ends("hung-up");
  await b.ends("hung-up");
  await a.pictures(here.out, "08-ended");
  await a.home();
  await b.home();
  await a.pictures(here.out, "09-history");
  expect([...a.complaints, ...b.complaints]).toEqual([]);
});

test("a second device rings too and is told that another one answered", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const b2 = await phone(bob, { first: b });
  await a.calls(bob, "call-audio");
  await Promise.all([b.shows("incoming"), b2.shows("incoming")]);
  await b.click("accept");
  await b2.ends("answered-elsewhere");
  await b2.pictures(here.out, "10-answered-elsewhere");
  await Promise.all([a.talks(false), b.talks(false)]);
});

test("who declines stops every device, and the caller is told", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const b2 = await phone(bob, { first: b });
  await a.calls(bob);
  await Promise.all([b.shows("incoming"), b2.shows("incoming")]);
  await b.click("decline");
  await a.ends("declined");
  await b2.ends("declined-elsewhere");
  await a.pictures(here.out, "11-declined");
  await b2.pictures(here.out, "12-declined-elsewhere");
});

test("who is in a call is busy for others", async () => {
  const { a, b } = await talking();
  const c = await phone("carol");
  await c.calls(b.name);
  await c.ends("busy");
  await c.pictures(here.out, "13-busy");
  await Promise.all([a.talks(), b.talks()]);
});

test("a caller who gives up leaves a missed call", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(bob);
  await b.shows("incoming");
  await a.click("cancel");
  await a.shows("home");
  await b.ends("cancelled");
  await b.pictures(here.out, "14-cancelled");
  await b.home();
  expect(await b.page.textContent('[data-testid="history"]')).toMatch(/missed/i);
});

test("two who call each other at the same time get one call", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await Promise.all([a.calls(bob), b.calls(alice)]);
  await Promise.all([a.talks(), b.talks()]);
  const [one, other] = [await a.state(), await b.state()];
  expect(one.call?.id).toBe(other.call?.id);
  expect([one.call?.role, other.call?.role].sort()).toEqual(["callee", "caller"]);
});

test("a callee who was offline comes online while it rings", async () => {
  const { alice, bob } = names();
  const a = await phone(alice);
  const b = await phone(bob);
  // Away from the page, and back: the device is registered all the while.
  await b.page.goto("about:blank");
  await a.calls(bob);
  await a.shows("outgoing");
  await b.page.goto(`${here.dev.page}?as=${bob}&probe`);
  await b.shows("incoming");
  await b.click("accept");
  await Promise.all([a.talks(), b.talks()]);
});

test("nobody is there: the caller is told that the callee has no phone", async () => {
  const a = await phone(names().alice);
  await a.calls("nobody-has-this-name");
  await a.ends("no-devices");
  await a.pictures(here.out, "15-no-devices");
});

test("both sides survive a reload while it rings", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(bob);
  await b.shows("incoming");
  await b.page.reload();
  await b.shows("incoming");
  await a.page.reload();
  await a.shows("outgoing");
  await b.click("accept");
  await Promise.all([a.talks(), b.talks()]);
});

test("both sides survive a reload in the middle of a call", async () => {
  const { a, b } = await talking();
  const call = (await a.state()).call?.id;
  for (const reloaded of [b, a]) {
    await reloaded.page.reload();
    await Promise.all([a.talks(), b.talks()]);
  }
  expect((await b.state()).call?.id).toBe(call);
});

test("signaling is killed between the accept and the push, and the caller is told all the same", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(bob);
  await b.shows("incoming");
  // The router cannot tell anybody anything until it is resumed.
  await here.dev.pause("router");
  const before = await here.dev.process("signaling");
  const answered = b.page.waitForResponse((response) => response.url().endsWith("/accept") && response.ok());
  await b.click("accept");
  await answered;
  await here.dev.kill("signaling");
  await here.dev.resume("router");
  await Promise.all([a.talks(), b.talks()]);
  expect((await here.dev.replaced(before)).starts).toBeGreaterThan(before.starts);
});

test("the relay is killed in the middle of a call, and no event comes of it", async () => {
  const { a, b } = await talking();
  const [from, since] = [await a.now(), await b.now()];
  const before = await here.dev.process("relay");
  await here.dev.kill("relay");
  await here.dev.replaced(before);
  await Promise.all([a.talks(), b.talks()]);
  expect(await a.iceEvents(from)).toEqual([]);
  expect(await b.iceEvents(since)).toEqual([]);
});

test("the router is killed in the middle of a call, and the call goes on and can be hung up", async () => {
  const { a, b } = await talking();
  const before = await here.dev.process("router");
  await here.dev.kill("router", { restart_after_ms: 3_000 });
  await says(a, "Connected. The server is away; the call goes on.");
  await a.pictures(here.out, "19-server-away-in-a-call");
  await here.dev.replaced(before, 20_000);
  await Promise.all([a.connected(), b.connected()]);
  await says(a, "Connected");
  await Promise.all([a.talks(), b.talks()]);
  await b.click("hang-up");
  await a.ends("hung-up");
});

test("everything is killed at once in the middle of a call, and the call goes on", async () => {
  const { a, b } = await talking();
  const before = await here.dev.process("router");
  await here.dev.kill("all");
  await here.dev.replaced(before);
  await Promise.all([a.connected(), b.connected()]);
  await Promise.all([a.talks(), b.talks()]);
  await a.click("hang-up");
  await b.ends("hung-up");
});

test("a server that is away is said, and the next call works", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const before = await here.dev.process("signaling");
  await here.dev.kill("signaling", { restart_after_ms: 20_000 });
  await a.calls(bob);
  await a.ends("server-away", 60_000);
  await a.pictures(here.out, "16-server-away");
  await a.home();
  await here.dev.replaced(before, 40_000);
  await a.calls(bob);
  await b.shows("incoming");
});

test("a call that was made though its caller was told otherwise stops ringing, and the next one works", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  let made = false;
  // The server makes it, and its answer is lost: by then the caller's phone has been told of its own leg.
  await refusesCalls(a, { status: 503, code: "store_away" }, async (route) => {
    if (!made) await route.fetch();
    made = true;
    await b.shows("incoming");
  });
  await a.calls(bob);
  await a.ends("server-away", 30_000);
  await b.ends("cancelled");
  await a.page.unroute(PLACING);
  await Promise.all([a.home(), b.home()]);
  await a.calls(bob);
  await b.shows("incoming");
});

test("a camera that is refused does not keep anybody from a call", async () => {
  const careful = await launchChromium({ camera: "deny" });
  try {
    const { alice, bob } = names();
    const b = await phone(bob);
    const a = await Phone.open(careful, here.dev.page, alice);
    await a.calls(bob);
    const problem = await a.shows("media");
    expect(problem.call?.peer).toBe(bob);
    await a.pictures(here.out, "17-camera-refused");
    // The camera of this browser is refused and so is its microphone: it is asked about one after the other.
    await a.click("go-on");
    await a.page.waitForSelector('[data-cause="microphone"]');
    await a.pictures(here.out, "26-microphone-refused");
    await until("the call is placed", { timeout_ms: 20_000, every_ms: 100 }, async () => {
      const { screen } = await a.state();
      if (screen === "media") await a.page.click('[data-testid="go-on"]', { timeout: 500 }).catch(() => undefined);
      return screen === "outgoing";
    });
    await b.shows("incoming");
    await b.click("accept");
    await Promise.all([a.talks(), b.shows("call")]);
  } finally {
    await careful.close();
  }
});

/** The three that take their time do so together. */
test("nobody answers, nobody is there, or one does not come back: each is told in its time and its words", async () => {
  await Promise.all([nobodyAnswers(), nobodyIsThere(), oneDoesNotComeBack()]);
});

async function nobodyAnswers(): Promise<void> {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(bob);
  await b.shows("incoming");
  const rings = Date.now();
  await says(a, "Ringing…");
  await a.ends("no-answer", 60_000);
  expect(Date.now() - rings).toBeGreaterThan(43_000);
  await b.ends("missed", 5_000);
  await Promise.all([b.pictures(here.out, "22-missed"), a.pictures(here.out, "18-no-answer")]);
}

async function nobodyIsThere(): Promise<void> {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  // Away from the page: the device is registered all the while.
  await b.page.goto("about:blank");
  await a.calls(bob);
  await says(a, `Calling… No phone of ${bob} rings yet. One that comes online does.`);
  await a.pictures(here.out, "23-rings-nowhere");
  await a.ends("not-reached", 60_000);
  await a.pictures(here.out, "24-not-reached");
  await b.page.goto(`${here.dev.page}?as=${bob}&probe`);
  await until("who was not there sees what was missed", { timeout_ms: 15_000 }, async () =>
    /missed/i.test((await b.page.textContent('[data-testid="history"]')) ?? ""),
  );
  await b.pictures(here.out, "25-missed-while-away");
}

/** Thirty seconds: then the device has left. */
async function oneDoesNotComeBack(): Promise<void> {
  const { a, b } = await talking();
  const lost = Date.now();
  await b.close();
  await says(a, "Reconnecting…");
  await a.pictures(here.out, "20-reconnecting");
  await a.ends("connection-lost", 60_000);
  expect(Date.now() - lost).toBeGreaterThan(28_000);
  await a.pictures(here.out, "21-connection-lost");
}
