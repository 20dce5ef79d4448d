// The machine's part in sealing and trust: what does not hold never becomes a call, and whom the user has to decide about.

import { describe, expect, it } from "vitest";
import type { SealCause } from "../phone";
import { type Event, INITIAL, screenOf } from "./state.ts";
import { names, offer, place, play, push, refusal, signedIn } from "./testing.ts";
import { pendingOf } from "./told.ts";
import { noticeWords } from "./words.ts";

const DIAL: Event = { t: "dial", to: "bob", media: "video" };
const PLACED: Event = { t: "placed", attempt: 1, place: place("c1") };
const RINGS: Event = { t: "push", push: offer("c1") };
const EXAMINED: Event = { t: "examined", attempt: 1 };
const CONFIRMED: Event = { t: "confirm_identity" };
const refused = (code: string, attempt = 1): Event => ({ t: "refused", attempt, failure: refusal(1, code) });

const FAULTS: [string, SealCause][] = [
  ["malformed", "malformed"],
  ["unknown_prekey", "unknown-prekey"],
  ["forged", "forged"],
  ["replayed", "replayed"],
  ["bad_device_list", "bad-device-list"],
];

describe("an incoming call that does not hold", () => {
  it.each(FAULTS)("%s never rings, says so, and leaves the other devices ringing", (code, cause) => {
    const { state, effects } = play(signedIn(), RINGS, refused(code));
    expect(state.ended?.cause).toBe(cause);
    expect(names(effects)).not.toContain("ringing");
    expect(effects).toContainEqual({ t: "reject", call_id: "c1", reason: "busy" });
    expect(effects).toContainEqual({ t: "ack", ids: ["c1.0"] });
    expect(screenOf(play(state, EXAMINED).state)).toBe("ended");
  });
});

describe("an outgoing call that does not hold", () => {
  it("is not placed when the list of devices does not", () => {
    const { state, effects } = play(signedIn(), DIAL, refused("bad_device_list"));
    expect(state.ended?.cause).toBe("bad-device-list");
    expect(names(effects)).not.toContain("end");
  });

  it("is ended when the answer does not open", () => {
    const accepted = push("accepted", "c1", { account: "bob", device: "dev_bob", id: "c1.2", sealed: "e30=", leg: 2 });
    const { state, effects } = play(signedIn(), DIAL, PLACED, { t: "push", push: accepted }, refused("forged"));
    expect(state.ended?.cause).toBe("forged");
    expect(effects).toContainEqual({ t: "end", call_id: "c1" });
    expect(effects).toContainEqual({ t: "forget", call_id: "c1", peer: "bob" });
  });
});

describe("a peer with another identity", () => {
  it("is called only when the user has confirmed it", () => {
    let { state, effects } = play(signedIn(), DIAL, refused("identity_changed"));
    expect(screenOf(state)).toBe("identity");
    expect(names(effects)).toEqual(["dial", "close_line"]);
    ({ state, effects } = play(state, CONFIRMED));
    expect(effects).toMatchObject([{ t: "confirm_identity", peer: "bob" }, { t: "dial", attempt: 1, to: "bob" }]);
    expect(screenOf(state)).toBe("outgoing");
  });

  it("is not called when the user does not, and nothing waits to be ended", () => {
    const { state, effects } = play(signedIn(), DIAL, refused("identity_changed"), { t: "home" });
    expect(screenOf(state)).toBe("home");
    expect(state.abandoned).toEqual([]);
    expect(names(effects)).not.toContain("end");
  });

  it("rings only when the user has confirmed it", () => {
    let { state, effects } = play(signedIn(), RINGS, refused("identity_changed"));
    expect(screenOf(state)).toBe("identity");
    expect(names(effects)).not.toContain("ringing");
    ({ state, effects } = play(state, CONFIRMED));
    expect(names(effects)).toEqual(["confirm_identity", "examine"]);
    ({ state, effects } = play(state, EXAMINED));
    expect(names(effects)).toEqual(["ringing"]);
    expect(screenOf(state)).toBe("incoming");
  });

  it("is declined when the user does not, and is missed when the ring is over", () => {
    const asked = play(signedIn(), RINGS, refused("identity_changed")).state;
    expect(play(asked, { t: "home" }).effects).toContainEqual({ t: "reject", call_id: "c1", reason: "declined" });
    expect(play(asked, { t: "socket", socket: "down" }, { t: "ring_over", attempt: 1 }).state.ended?.cause).toBe("missed");
  });

  it("whose call won over ours is answered only when the user has confirmed it", () => {
    const glare: Event = { t: "refused", attempt: 1, failure: refusal(409, "glare", { call_id: "c2" }) };
    const asked = play(signedIn(), DIAL, glare, { t: "push", push: offer("c2") }, refused("identity_changed"));
    expect(screenOf(asked.state)).toBe("identity");
    expect(names(play(asked.state, CONFIRMED).effects)).toEqual(["confirm_identity", "accept"]);
  });

  it("changes nothing when nobody was asked", () => {
    const before = signedIn();
    expect(play(before, CONFIRMED)).toEqual({ state: before, effects: [] });
  });
});

describe("a device that is new to its account", () => {
  const WAITING = { device: "dev_b", code: "012345", hosted: false };

  it("waits, shows its code, and goes on by itself once it is let in", () => {
    let { state, effects } = play(INITIAL, { t: "sign_in", account: "bob" }, { t: "signed_in", account: "bob", device: "dev_b", join_code: "012345" });
    expect([screenOf(state), names(effects)]).toEqual(["pending", ["sign_in"]]);
    expect(pendingOf(state)).toEqual({ code: "012345", waiting: [] });
    ({ state, effects } = play(state, { t: "own_devices", registered: true, join_code: "012345", let_in: false, waiting: [] }));
    expect([screenOf(state), effects]).toEqual(["pending", []]);
    ({ state, effects } = play(state, { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [] }));
    expect([screenOf(state), names(effects)]).toEqual(["home", ["connect"]]);
  });

  it("is let in by the user of the first one, who sees it once", () => {
    const seen = play(signedIn(), { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [WAITING] });
    expect(pendingOf(seen.state).waiting).toEqual([{ device: "dev_b", code: "012345" }]);
    const { state, effects } = play(seen.state, { t: "endorse", device: "dev_b" });
    expect(effects).toEqual([{ t: "endorse", device: WAITING }]);
    expect(state.waiting).toEqual([]);
    expect(play(state, { t: "endorse", device: "dev_b" }).effects).toEqual([]);
  });

  it("that was in and has to wait again does so, and what it talks in goes on", () => {
    const waits: Event = { t: "own_devices", registered: true, join_code: "012345", let_in: false, waiting: [] };
    const dials: Event = { t: "dial", to: "bob", media: "audio" };
    expect(screenOf(play(signedIn(), waits).state)).toBe("pending");
    expect(screenOf(play(signedIn(), dials, waits).state)).toBe("outgoing");
    expect(screenOf(play(signedIn(), dials, waits, { t: "hang_up" }).state)).toBe("pending");
    // It is connected all the while.
    const { state, effects } = play(signedIn(), waits, { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [] });
    expect([screenOf(state), state.socket, effects]).toEqual(["home", "up", []]);
  });

  it("that was let in by a first device that it does not know asks its person, and then only", () => {
    const looked = (let_in: boolean, join_code: string | null): Event => ({ t: "own_devices", registered: true, join_code, let_in, waiting: [] });
    const waits = play(signedIn(), looked(false, "012345"));
    expect(play(waits.state, { t: "confirm_own" }).effects).toEqual([]);
    const asked = play(waits.state, looked(true, "012345"));
    expect([screenOf(asked.state), asked.effects]).toEqual(["pending", []]);
    const { state, effects } = play(asked.state, { t: "confirm_own" });
    expect(effects).toEqual([{ t: "confirm_identity", peer: "alice" }, { t: "look_at_own" }]);
    expect(screenOf(play(state, looked(false, null)).state)).toBe("home");
  });

  it("whose call is refused because of the device asks the list what is the matter with it", () => {
    const { state, effects } = play(
      signedIn(),
      { t: "dial", to: "bob", media: "audio" },
      { t: "refused", attempt: 1, failure: refusal(403, "device_not_registered") },
    );
    expect([state.ended?.cause, names(effects)]).toEqual(["failed", expect.arrayContaining(["look_at_own"])]);
    // It may be let in meanwhile, in the middle of what rings here.
    const pending = play(signedIn(), { t: "own_devices", registered: true, join_code: "1", let_in: false, waiting: [] });
    const rings = play(pending.state, { t: "push", push: offer("c1") }, { t: "examined", attempt: 1 });
    expect(screenOf(rings.state)).toBe("incoming");
    const inside = play(rings.state, { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [] });
    expect([screenOf(inside.state), inside.state.join_code]).toEqual(["incoming", null]);
  });

  it("that was removed says so, once, whatever it was doing", () => {
    const gone: Event = { t: "own_devices", registered: false, join_code: "012345", let_in: false, waiting: [] };
    for (const before of [[], [{ t: "dial", to: "bob", media: "audio" }], [{ t: "own_devices", registered: true, join_code: "0", let_in: false, waiting: [] }]]) {
      const { state } = play(signedIn(), ...(before as Event[]), gone);
      expect([screenOf(state), state.ended?.cause]).toEqual(["ended", "removed"]);
      expect(play(state, gone)).toEqual({ state, effects: [] });
      // And back again, when it is.
      const back: Event = { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [] };
      expect(screenOf(play(state, back).state)).toBe("home");
    }
    // The screen of its last call would have gone away by itself.
    const last = play(signedIn(), { t: "dial", to: "bob", media: "audio" }, { t: "refused", attempt: 1, failure: refusal(422, "self_call") });
    expect(names(last.effects)).toContain("timer");
    const { state } = play(last.state, gone, { t: "ended_over", attempt: 1 });
    expect([screenOf(state), state.ended?.cause]).toEqual(["ended", "removed"]);
  });

  it("that is not the user's is not asked about again", () => {
    const looked: Event = { t: "own_devices", registered: true, join_code: null, let_in: false, waiting: [WAITING] };
    const { state, effects } = play(signedIn(), looked, { t: "refuse_device", device: "dev_b" }, looked);
    expect([state.waiting, effects]).toEqual([[], []]);
  });
});

describe("what is said of a peer's devices", () => {
  it("is nothing when nothing is particular", () => {
    expect(noticeWords("bob", { fresh: [], hosted: [] })).toEqual([]);
    expect(noticeWords("bob", { fresh: ["dev_c"], hosted: ["dev_c"] })).toHaveLength(2);
  });
});
