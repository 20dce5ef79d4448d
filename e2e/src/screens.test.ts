// The screens that no call leads to by itself: before the first call, where a call is refused, where the phone is not this tab's
// or not this account's any more. And a phone that is worked by its keys alone.

import { expect, test } from "vitest";
import { Phone } from "./harness/phone.ts";
import { PLACING, refusesCalls, stage } from "./harness/stage.ts";
import { until } from "./harness/until.ts";

const here = stage("screens");
const { names, phone } = here;

/** The longest name that an account may have, with a word that nothing breaks. */
const LONGEST = `${"w".repeat(40)}.${"M".repeat(23)}`;

/** A token of a device, as its app's own server would give it. */
async function token(of: Phone): Promise<{ api: string; connect: string; device: string; token: string }> {
  return of.page.evaluate(async () => {
    const { account, device } = window.phone.state();
    const { api, connect } = window.phone.config ?? { api: "", connect: "" };
    const answer = await fetch(`${api}/v1/dev/tokens`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ account, device }),
    });
    const { token: given } = (await answer.json()) as { token: string };
    return { api, connect, device: device ?? "", token: given };
  });
}

/** Another device of the account removes one. */
async function removes(by: Phone, device: string): Promise<void> {
  const { api, token: bearer } = await token(by);
  const answer = await fetch(`${api}/v1/devices/${device}`, { method: "DELETE", headers: { authorization: `Bearer ${bearer}` } });
  expect(answer.status).toBe(204);
}

/** Presses Tab until the element with this testid has the keyboard, as somebody without a mouse does. */
async function tabsTo(one: Phone, testid: string): Promise<void> {
  for (let pressed = 0; pressed < 15; pressed += 1) {
    await one.page.keyboard.press("Tab");
    if ((await focus(one)) === testid) return;
  }
  throw new Error(`${testid} cannot be reached by Tab`);
}

function focus(one: Phone): Promise<string | undefined> {
  return one.page.evaluate(() => (document.activeElement instanceof HTMLElement ? document.activeElement.dataset["testid"] : undefined));
}

async function tab(): Promise<Phone> {
  return Phone.blank(await here.browser.newContext({ viewport: { width: 1100, height: 760 } }), here.dev.page);
}

test("a call is placed, answered, muted and hung up by keyboard alone", async () => {
  const { alice, bob } = names();
  const [a, b] = [await tab(), await tab()];
  try {
    for (const [one, name] of [[a, alice], [b, bob]] as const) {
      await one.shows("sign-in");
      await until("the name is asked for", { timeout_ms: 5_000 }, async () => (await focus(one)) === "account");
      await one.page.keyboard.type(name);
      await one.page.keyboard.press("Enter");
      await one.shows("home");
      await one.connected();
    }
    expect(await focus(a)).toBe("callee");
    const relayed = (): Promise<boolean> => a.page.isChecked('[data-testid="always-relay"]');
    expect(await relayed()).toBe(true);
    for (const on of [false, true]) {
      await tabsTo(a, "always-relay");
      await a.page.keyboard.press("Space");
      expect(await relayed()).toBe(on);
      await a.page.focus('[data-testid="callee"]');
    }
    await a.page.keyboard.type(bob);
    await a.page.keyboard.press("Enter");
    await b.shows("incoming");
    await tabsTo(b, "accept");
    await b.page.keyboard.press("Enter");
    await Promise.all([a.talks(), b.talks()]);
    for (const words of ["Unmute", "Mute"]) {
      await tabsTo(a, "mute");
      await a.page.keyboard.press("Space");
      await until(`it says ${words}`, { timeout_ms: 5_000 }, async () => (await a.page.textContent('[data-testid="mute"]')) === words);
      await a.page.focus("main");
    }
    await tabsTo(a, "safety-number");
    await a.page.keyboard.press("Enter");
    await a.page.waitForSelector("dialog[open]");
    await a.page.keyboard.press("Escape");
    await a.page.waitForSelector("dialog[open]", { state: "detached" });
    await tabsTo(a, "hang-up");
    await a.page.keyboard.press("Enter");
    await Promise.all([a.ends("hung-up"), b.ends("hung-up")]);
    expect(await focus(a)).toBe("home");
    await a.page.keyboard.press("Enter");
    await a.shows("home");
  } finally {
    for (const one of [a, b]) await one.close();
  }
});

test("a key that was meant for what was there before neither answers a call nor ends one", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await b.page.focus('[data-testid="callee"]');
  await b.page.keyboard.type("somebody");
  await a.calls(bob);
  await b.shows("incoming");
  for (const key of ["Enter", "Space", "x"]) await b.page.keyboard.press(key);
  expect((await b.state()).screen).toBe("incoming");
  await tabsTo(b, "accept");
  await b.page.keyboard.press("Enter");
  await Promise.all([a.talks(), b.talks()]);
  for (const key of ["Enter", "Space"]) await b.page.keyboard.press(key);
  await Promise.all([a.talks(), b.talks()]);
});

test("the switch decides whether the browser may use anything but a relay", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  for (const policy of ["relay", "all"]) {
    expect(await a.page.isChecked('[data-testid="always-relay"]')).toBe(policy === "relay");
    await a.calls(bob, "call-audio");
    await b.shows("incoming");
    await until(`its policy is ${policy}`, { timeout_ms: 5_000 }, async () =>
      (await a.page.evaluate(() => window.phone.pc()?.getConfiguration().iceTransportPolicy)) === policy,
    );
    await a.click("cancel");
    await b.ends("cancelled");
    await Promise.all([a.home(), b.home()]);
    await a.page.setChecked('[data-testid="always-relay"]', policy !== "relay", { force: true });
    // It is remembered.
    await a.page.reload();
    await a.shows("home");
    await a.connected();
  }
});

test("who signs in while the server is away is told, and is in once it is back", async () => {
  const one = await tab();
  try {
    await one.shows("sign-in");
    await one.pictures(here.out, "01-sign-in");
    const before = await here.dev.process("signaling");
    await here.dev.kill("signaling", { restart_after_ms: 6_000 });
    await one.page.fill('[data-testid="account"]', names().alice);
    await one.click("sign-in");
    await one.page.waitForSelector('[data-testid="problem"]:not([hidden])');
    expect(await one.page.textContent('[data-testid="problem"]')).toMatch(/does not answer|not available|away/i);
    await one.pictures(here.out, "02-sign-in-without-server");
    await here.dev.replaced(before, 30_000);
    await one.shows("home");
  } finally {
    await one.close();
  }
});

test("a second device waits until the first one lets it in, and the first one is asked", async () => {
  const { alice } = names();
  const first = await phone(alice);
  const second = await tab();
  try {
    await second.page.goto(`${here.dev.page}?as=${alice}`);
    await second.shows("pending");
    await until("its code stands there", { timeout_ms: 5_000 }, async () => /^[\d ]{20,}$/.test((await second.page.textContent('[data-testid="join-code"]')) ?? ""));
    await second.pictures(here.out, "03-waits-to-be-let-in");
    await first.page.waitForSelector('[data-testid="asking"]');
    await first.pictures(here.out, "04-lets-in");
    await first.letsIn(second);
    await second.shows("home");
  } finally {
    await second.close();
  }
});

test("names of sixty-four letters fit every screen", async () => {
  const a = await phone(LONGEST);
  const { bob } = names();
  const b = await phone(bob);
  await a.pictures(here.out, "05-long-name-home");
  await a.calls(bob);
  await b.shows("incoming");
  await b.pictures(here.out, "06-long-name-incoming");
  await b.click("accept");
  await Promise.all([a.talks(), b.talks()]);
  await b.pictures(here.out, "07-long-name-call");
  await b.click("safety-number");
  await b.page.waitForSelector("dialog[open]");
  await b.pictures(here.out, "08-long-name-safety-number");
  await b.click("safety-close");
  await a.click("hang-up");
  await b.ends("hung-up");
  await b.pictures(here.out, "09-long-name-ended");
  await b.home();
  await b.calls(LONGEST, "call-audio");
  await a.shows("incoming");
  await b.pictures(here.out, "10-long-name-outgoing");
  await a.pictures(here.out, "11-incoming-audio");
  await a.click("decline");
  await b.ends("declined");
});

test("an audio call has no camera, and its screen none either", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(bob, "call-audio");
  await b.shows("incoming");
  await b.click("accept");
  await Promise.all([a.talks(false), b.talks(false)]);
  expect(await a.page.isVisible('[data-testid="camera"]')).toBe(false);
  await a.pictures(here.out, "12-audio-call");
});

test("who is in a call with somebody on another device is told so when calling them once more", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const a2 = await phone(alice, { first: a });
  await a.calls(bob);
  await b.shows("incoming");
  await b.click("accept");
  await Promise.all([a.talks(), b.talks()]);
  await a2.calls(b.name);
  await a2.ends("call-exists");
  await a2.pictures(here.out, "13-call-exists");
  await Promise.all([a.talks(), b.talks()]);
});

test("who calls oneself is told so, and who calls too often is told when to try again", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  await a.calls(alice);
  await a.ends("self-call");
  await a.pictures(here.out, "14-self-call");
  await a.home();
  // As the server answers who has had its calls of this minute; when it does is shown in signaling/tests/attacks/quotas.rs.
  await refusesCalls(a, { title: "Too many requests", status: 429, code: "rate_limited", retry_after_ms: 12_000 });
  await a.calls(bob, "call-audio");
  await a.ends("refused");
  expect(await a.page.textContent('[data-testid="retry-after"]')).toMatch(/^Try again in \d+ s\.$/);
  expect(await a.page.isDisabled('[data-testid="call-again"]')).toBe(true);
  await a.pictures(here.out, "15-refused");
  await a.page.unroute(PLACING);
  await until("it may be tried again", { timeout_ms: 30_000 }, () => a.page.isEnabled('[data-testid="call-again"]'));
  await a.click("call-again");
  await b.shows("incoming");
});

test("a refusal that nobody foresaw is told in the server's own words", async () => {
  const { alice, bob } = names();
  const [a] = [await phone(alice), await phone(bob)];
  await refusesCalls(a, { title: "The moon is in the wrong house", status: 422, code: "unheard_of" });
  await a.calls(bob, "call-audio");
  await a.ends("failed");
  expect(await a.page.textContent("main")).toContain("The moon is in the wrong house.");
  await a.pictures(here.out, "20-failed");
});

test("a phone that was opened elsewhere says so, and is taken over from there", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const { connect, token: bearer } = await token(b);
  // The same device, as a restored copy of its tab would be.
  const closed = a.page.evaluate(
    ([url, given]) =>
      new Promise<number>((resolve) => {
        const other = new WebSocket(url, ["tandem.v1", `bearer.${given}`]);
        other.addEventListener("close", ({ code }) => resolve(code));
      }),
    [connect, bearer] as const,
  );
  await b.ends("elsewhere");
  await b.pictures(here.out, "16-elsewhere");
  await b.click("take-over");
  await b.connected();
  expect(await closed).toBe(4409);
  await a.calls(bob);
  await b.shows("incoming");
});

test("a phone that was removed says so, at rest and in a call, and can sign in again", async () => {
  const { alice, bob } = names();
  const [a, b] = [await phone(alice), await phone(bob)];
  const b2 = await phone(bob, { first: b });
  await a.calls(bob);
  await b.shows("incoming");
  await b.click("accept");
  await b2.ends("answered-elsewhere");
  await Promise.all([a.talks(), b.talks(), b2.home()]);
  await removes(b2, (await b.state()).device ?? "");
  // The call is over at once; why, its next connection says.
  await Promise.all([b.page.waitForSelector('[data-cause="removed"]'), a.ends("hung-up")]);
  await b.pictures(here.out, "17-removed-in-a-call");
  await removes(b, (await b2.state()).device ?? "");
  await b2.ends("removed");
  await b2.pictures(here.out, "18-removed");
  await b2.click("sign-in-again");
  await b2.shows("home");
  await b2.connected();
  await a.home();
  await a.calls(b.name);
  await a.shows("identity");
  await a.click("confirm-identity");
  await b2.shows("incoming");
  // Nobody is in between: both show the same number, of what the account is now.
  const number = (one: Phone, peer: string): Promise<string> =>
    until(`${one.name} knows the number`, { timeout_ms: 10_000 }, () => one.page.evaluate((of) => window.phone.safety(of), peer));
  expect(await number(a, bob)).toBe(await number(b2, alice));
});

test("a device that another first device has let in asks its person whether that was them", async () => {
  const { alice, bob } = names();
  const first = await phone(alice);
  const second = await phone(alice, { first });
  await removes(second, (await first.state()).device ?? "");
  await first.ends("removed");
  await first.close();
  // Nobody vouches for the account any more: who comes now founds it anew.
  const third = await phone(alice);
  // A tab that is looked at again looks at its account.
  await second.page.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
  await third.letsIn(second);
  await second.page.waitForSelector('[data-testid="confirm-own"]:visible');
  await second.pictures(here.out, "19-let-in-by-another-first-device");
  await second.click("confirm-own");
  await second.shows("home");
  await second.connected();
  const b = await phone(bob);
  await b.calls(alice);
  await Promise.all([second.shows("incoming"), third.shows("incoming")]);
});
