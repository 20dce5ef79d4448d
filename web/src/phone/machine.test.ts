import { describe, expect, it } from "vitest";
import { GHOST_COMES_WITHIN_MS, RINGS_SOON_MS } from "./limits.ts";
import { step } from "./machine.ts";
import { type Event, INITIAL, ringsNowhere, screenOf, type State } from "./state.ts";
import { BOB, NOW_MS, names, offer, place, play, push, refusal, signedIn, view } from "./testing.ts";

const DIAL: Event = { t: "dial", to: "bob", media: "video" };
const live = (p: ReturnType<typeof push>): Event => ({ t: "push", push: p });
const sync = (...pushes: ReturnType<typeof push>[]): Event => ({ t: "sync", pushes });
const PLACED: Event = { t: "placed", attempt: 1, place: place("c1") };
const EXAMINED: Event = { t: "examined", attempt: 1 };
const ACCEPTED = push("accepted", "c1", { ...BOB, id: "c1.2", sealed: "e30=", leg: 2 });

function talking(): State {
  return play(signedIn(), DIAL, PLACED, live(ACCEPTED), { t: "media_up", attempt: 1 }).state;
}

describe("an outgoing call", () => {
  it("dials, rings, is accepted and talks", () => {
    let { state, effects } = play(signedIn(), DIAL);
    expect(names(effects)).toEqual(["dial"]);
    expect(screenOf(state)).toBe("outgoing");
    ({ state } = play(state, PLACED, live(push("ringing", "c1"))));
    expect(state.call?.phase).toBe("ringing");
    ({ state, effects } = play(state, live(ACCEPTED)));
    expect(names(effects)).toEqual(["apply_answer"]);
    expect(state.call?.phase).toBe("connecting");
    ({ state } = play(state, { t: "media_up", attempt: 1 }));
    expect(state.call).toMatchObject({ phase: "connected", connected_at_ms: NOW_MS });
  });

  it("is over for both when the media are not of whom the seal names", () => {
    const connecting = play(signedIn(), DIAL, PLACED, live(ACCEPTED)).state;
    const { state, effects } = play(connecting, { t: "media_refused", attempt: 1 });
    expect(state.ended).toMatchObject({ cause: "unsecured", duration_ms: null });
    expect(names(effects)).toEqual(["close_line", "forget", "remember", "end"]);
    const late = play(state, { t: "media_up", attempt: 1 });
    expect(screenOf(late.state)).toBe("ended");
    expect(names(late.effects)).toEqual([]);
  });

  it("takes up pushes that came before the answer to its request", () => {
    const { state, effects } = play(signedIn(), DIAL, live(push("ringing", "c1")), live(ACCEPTED), PLACED);
    expect(state.call?.phase).toBe("connecting");
    expect(names(effects)).toContain("apply_answer");
  });

  it("heeds an accept whose revision is below that of a late answer to the request", () => {
    const { state } = play(signedIn(), DIAL, PLACED, live({ ...ACCEPTED, revision: 3 }));
    expect(state.call?.phase).toBe("connecting");
  });

  it("does not ring again when a push of an earlier revision comes late", () => {
    const { state } = play(signedIn(), DIAL, PLACED, live(ACCEPTED), live(push("ringing", "c1", { revision: 2 })));
    expect(state.call?.phase).toBe("connecting");
  });

  it("given up before it has a name, is ended as soon as it has one", () => {
    const given_up = play(signedIn(), DIAL, { t: "hang_up" });
    expect(screenOf(given_up.state)).toBe("home");
    const { state, effects } = play(given_up.state, PLACED);
    expect(effects).toEqual([{ t: "end", call_id: "c1" }]);
    expect(state.abandoned).toEqual([]);
  });

  it("given up and not yet named, is not taken up again by a reconnect", () => {
    const leg = push("leg_joined", "c1", { leg: 1, my_leg: 1 });
    const { effects } = play(signedIn(), DIAL, { t: "hang_up" }, sync(leg));
    expect(names(effects)).not.toContain("look");
  });

  it.each([
    ["declined", "declined"],
    ["busy", "busy"],
    ["timeout", "not-reached"],
    ["connection_lost", "connection-lost"],
    ["kicked", "no-answer"],
  ])("that ends with %s says %s", (reason, cause) => {
    const { state } = play(signedIn(), DIAL, PLACED, live(push("ended", "c1", { reason })));
    expect(screenOf(state)).toBe("ended");
    expect(state.ended?.cause).toBe(cause);
  });

  it("that rings and is not answered is not that of somebody who is not online", () => {
    const calling = play(signedIn(), DIAL, PLACED).state;
    expect(ringsNowhere(calling.call, NOW_MS + RINGS_SOON_MS - 1)).toBe(false);
    expect(ringsNowhere(calling.call, NOW_MS + RINGS_SOON_MS)).toBe(true);
    // One that the server does not know yet may ring at any moment.
    expect(ringsNowhere(play(signedIn(), DIAL).state.call, NOW_MS + RINGS_SOON_MS)).toBe(false);
    const ringing = play(calling, live(push("ringing", "c1"))).state;
    expect(ringsNowhere(ringing.call, NOW_MS + RINGS_SOON_MS)).toBe(false);
    expect(play(ringing, live(push("ended", "c1", { reason: "timeout" }))).state.ended?.cause).toBe("no-answer");
  });

  it.each([
    [0, "no_answer", "server-away"],
    [503, "store_away", "server-away"],
    [429, "call_quota", "refused"],
    [404, "no_devices", "no-devices"],
    [409, "call_exists", "call-exists"],
    [422, "self_call", "self-call"],
  ])("refused with %i %s says %s", (status, code, cause) => {
    const { state } = play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(status, code) });
    expect(state.ended?.cause).toBe(cause);
  });

  it("says when to try again", () => {
    const failure = refusal(503, "overloaded", { retry_after_ms: 7_000 });
    expect(play(signedIn(), DIAL, { t: "refused", attempt: 1, failure }).state.ended?.again_at_ms).toBe(NOW_MS + 7_000);
  });

  it("goes home by itself from an end, but not from an error", () => {
    const end = play(signedIn(), DIAL, PLACED, live(push("ended", "c1", { reason: "busy" })));
    expect(names(end.effects)).toContain("timer");
    expect(screenOf(play(end.state, { t: "ended_over", attempt: 1 }).state)).toBe("home");
    const error = play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(0, "no_answer") });
    expect(names(error.effects)).not.toContain("timer");
  });
});

describe("an incoming call", () => {
  it("rings, is answered, and its offer is acknowledged only then", () => {
    let { state, effects } = play(signedIn(), live(offer("c1")));
    expect(names(effects)).toEqual(["examine", "timer"]);
    expect(screenOf(state)).toBe("home");
    ({ state, effects } = play(state, EXAMINED));
    expect(effects).toEqual([{ t: "ringing", call_id: "c1" }]);
    expect(screenOf(state)).toBe("incoming");
    ({ state, effects } = play(state, { t: "accept", camera: false }));
    expect(effects).toMatchObject([{ t: "accept", sends: { microphone: true, camera: false } }]);
    ({ state, effects } = play(state, { t: "answered", attempt: 1, place: place("c1") }));
    expect(effects).toEqual([{ t: "ack", ids: ["c1.0"] }]);
    expect(state.call?.phase).toBe("connecting");
  });

  it("rings on when the server's clock has jumped, until the server says so or it rang for as long as any call", () => {
    const rings = play(signedIn(), live(offer("c1", { ring_remaining_ms: 0 })), EXAMINED);
    expect(rings.effects).toContainEqual({ t: "timer", event: { t: "ring_over", attempt: 1 }, ms: 3_000 });
    const on = play(rings.state, { t: "ring_over", attempt: 1 });
    expect(screenOf(on.state)).toBe("incoming");
    expect(on.effects).toEqual([{ t: "timer", event: { t: "ring_over", attempt: 1 }, ms: 48_000 }]);
    expect(step(on.state, { t: "ring_over", attempt: 1 }, NOW_MS + 48_000).state.ended?.cause).toBe("missed");
  });

  it("declined, goes home at once", () => {
    const { state, effects } = play(signedIn(), live(offer("c1")), { t: "decline" });
    expect(screenOf(state)).toBe("home");
    expect(effects).toContainEqual({ t: "reject", call_id: "c1", reason: "declined" });
    expect(effects).toContainEqual({ t: "ack", ids: ["c1.0"] });
  });

  it("told again after it was declined, is declined again", () => {
    const { state, effects } = play(signedIn(), live(offer("c1")), { t: "decline" }, sync(offer("c1")));
    expect(state.call).toBeNull();
    expect(effects.filter(({ t }) => t === "reject")).toHaveLength(2);
  });

  it("told again while it rings, rings once", () => {
    const { effects } = play(signedIn(), live(offer("c1")), EXAMINED, sync(offer("c1")), EXAMINED);
    expect(names(effects)).toEqual(["examine", "timer", "ringing"]);
  });

  it.each([
    ["cancelled", {}, "cancelled"],
    ["answered_elsewhere", {}, "answered-elsewhere"],
    ["ended", { reason: "rejected_elsewhere" }, "declined-elsewhere"],
    ["ended", { reason: "timeout" }, "missed"],
  ])("that is %s %o says %s", (type, more, cause) => {
    expect(play(signedIn(), live(offer("c1")), live(push(type, "c1", more))).state.ended?.cause).toBe(cause);
  });

  it("loses the race against another device of the same person", () => {
    const failure = refusal(409, "answered_elsewhere");
    const { state } = play(signedIn(), live(offer("c1")), { t: "accept", camera: true }, { t: "refused", attempt: 1, failure });
    expect(state.ended?.cause).toBe("answered-elsewhere");
  });

  it("stops ringing by itself when the server cannot say so", () => {
    const down: Event = { t: "socket", socket: "down" };
    expect(play(signedIn(), live(offer("c1")), down, { t: "ring_over", attempt: 1 }).state.ended?.cause).toBe("missed");
  });

  it("hung up while the answer is under way, is ended when the server has it", () => {
    const { effects } = play(
      signedIn(),
      live(offer("c1")),
      { t: "accept", camera: true },
      { t: "hang_up" },
      { t: "answered", attempt: 1, place: place("c1") },
    );
    expect(effects.filter(({ t }) => t === "end")).toHaveLength(2);
  });
});

describe("a phone that is busy", () => {
  it.each([
    ["in a call", talking()],
    ["ringing", play(signedIn(), live(offer("c1"))).state],
    ["dialling someone else", play(signedIn(), { t: "dial", to: "carol", media: "audio" }).state],
  ])("%s says so and does nothing else", (_name, before) => {
    const { state, effects } = play(before, live(offer("c2")));
    expect(effects[0]).toEqual({ t: "reject", call_id: "c2", reason: "busy" });
    expect(names(effects)).not.toContain("ringing");
    expect(state.call).toEqual(before.call);
  });
});

describe("two who call each other", () => {
  const GLARE: Event = { t: "refused", attempt: 1, failure: refusal(409, "glare", { call_id: "c2" }) };

  it("talk, when the offer comes after the refusal", () => {
    const waiting = play(signedIn(), DIAL, GLARE);
    expect(screenOf(waiting.state)).toBe("outgoing");
    const { state, effects } = play(waiting.state, live(offer("c2")));
    expect(names(effects)).toEqual(["accept"]);
    expect(state.call).toMatchObject({ id: "c2", role: "callee", phase: "answering" });
  });

  it("talk, when the offer was there before the refusal", () => {
    const held = play(signedIn(), DIAL, live(offer("c2")));
    expect(names(held.effects)).toEqual(["dial"]);
    const { state, effects } = play(held.state, GLARE);
    expect(names(effects)).toEqual(["close_line", "timer", "accept"]);
    expect(state.call?.role).toBe("callee");
  });

  it("ring, when our own call failed for another reason", () => {
    const { state } = play(signedIn(), DIAL, live(offer("c2")), { t: "refused", attempt: 1, failure: refusal(0, "no_answer") });
    expect(screenOf(play(state, { t: "examined", attempt: 2 }).state)).toBe("incoming");
  });

  it("give up, when the offer does not come", () => {
    expect(play(signedIn(), DIAL, GLARE, { t: "ring_over", attempt: 1 }).state.ended?.cause).toBe("failed");
  });
});

describe("a tab that was reloaded", () => {
  const LEG = push("leg_joined", "c1", { leg: 1, my_leg: 1, age_ms: 5_000 });

  it("rings again as a callee", () => {
    expect(screenOf(play(signedIn(), sync(offer("c1")), EXAMINED).state)).toBe("incoming");
  });

  it("shows its outgoing call again, and offers anew when it is accepted", () => {
    const looking = play(signedIn(), sync(LEG, push("ringing", "c1")));
    expect(names(looking.effects)).toEqual(["look"]);
    const legs = view("c1").legs.slice(0, 1);
    const ringing = play(looking.state, { t: "looked", call_id: "c1", view: view("c1", { phase: "ringing", legs }) });
    expect(screenOf(ringing.state)).toBe("outgoing");
    expect(ringing.state.call?.phase).toBe("ringing");
    const { effects } = play(ringing.state, live(ACCEPTED));
    expect(names(effects)).toEqual(["rejoin", "ack"]);
    expect(effects[0]).toMatchObject({ peer: BOB, polite: false });
  });

  it("is back in an active call by itself, and hears what was said meanwhile after it has begun", () => {
    const signal = push("signal", "c1", { id: "s1", sealed: "e30=", from: BOB });
    const looking = play(signedIn(), sync(signal, LEG));
    const { state, effects } = play(looking.state, { t: "looked", call_id: "c1", view: view("c1") });
    expect(names(effects)).toEqual(["rejoin", "signal"]);
    expect(state.call).toMatchObject({ phase: "reconnecting", connected_at_ms: NOW_MS - 5_000 });
  });

  it("does not come back into a call that it has left", () => {
    const left = play(talking(), { t: "hang_up" }).state;
    expect(play(left, sync(LEG)).effects).toEqual([{ t: "end", call_id: "c1" }]);
  });

  it("ends a call that was placed after all when it was told that there is none", () => {
    const away = play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(503, "store_away") });
    expect(away.state.ended?.cause).toBe("server-away");
    const late = play(away.state, { t: "push", push: push("leg_joined", "c9", { leg: 1, my_leg: 1 }) });
    expect(late.effects).toEqual([{ t: "end", call_id: "c9" }]);
    expect(late.state.ended?.cause).toBe("server-away");
    // What comes of it later changes nothing.
    expect(play(late.state, { t: "push", push: push("accepted", "c9", {}) }).effects).toEqual([]);
  });

  it("ends such a call even if it is told of it while it asks for the next one, whatever becomes of that", () => {
    const away = play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(503, "store_away") }, { t: "home" });
    const late = push("leg_joined", "c9", { leg: 1, my_leg: 1 });
    const asks = play(away.state, DIAL, live(late));
    const ends = { t: "end", call_id: "c9" };
    for (const [status, code] of [[409, "call_exists"], [503, "store_away"], [409, "no_devices"]] as const) {
      const { state, effects } = play(asks.state, { t: "refused", attempt: 2, failure: refusal(status, code) });
      expect(effects, code).toContainEqual(ends);
      expect(state.left, code).toContain("c9");
      expect(screenOf(state), code).toBe("ended");
    }
    expect(play(asks.state, { t: "placed", attempt: 2, place: place("c10") }).effects).toContainEqual(ends);
    const given_up = play(asks.state, { t: "hang_up" });
    expect(names(given_up.effects)).not.toContain("end");
    expect(play(given_up.state, { t: "placed", attempt: 2, place: place("c10") }).effects).toContainEqual(ends);
  });

  describe("when it was told that there is no call, and is told of one by the connection that comes back", () => {
    const away = (): State => play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(503, "store_away") }).state;
    const own = (age_ms: number): Event => sync(push("leg_joined", "c9", { leg: 1, my_leg: 1, age_ms }));

    it("ends the one that it had asked for", () => {
      const { state, effects } = play(away(), own(1_000));
      expect(effects).toEqual([{ t: "end", call_id: "c9" }]);
      expect(play(state, { t: "push", push: push("accepted", "c9", {}) }).effects).toEqual([]);
    });

    it("comes back into one that was there before it asked", () => {
      expect(names(play(away(), own(60_000)).effects)).toEqual(["look"]);
    });

    it("comes back into one when the server has said that it made none", () => {
      const { state } = play(signedIn(), DIAL, { t: "refused", attempt: 1, failure: refusal(409, "no_devices") });
      expect(names(play(state, own(0)).effects)).toEqual(["look"]);
    });

    it("ends one that was given up before the server had answered, whatever it answers and when it is told", () => {
      for (const told of [own(0), { t: "push", push: push("leg_joined", "c9", { leg: 1, my_leg: 1 }) } as const]) {
        const waits = play(signedIn(), DIAL, { t: "hang_up" }, told);
        expect(names(waits.effects)).not.toContain("end");
        const refused = play(waits.state, { t: "refused", attempt: 1, failure: refusal(503, "store_away") });
        expect(refused.effects).toEqual([{ t: "end", call_id: "c9" }]);
        const placed = play(waits.state, { t: "placed", attempt: 1, place: place("c9") });
        expect(placed.effects).toEqual([{ t: "end", call_id: "c9" }]);
        expect(placed.state.doubted).toEqual([]);
      }
    });

    it("does so for some minutes, and not for ever", () => {
      const { state } = play(away());
      const later = step(state, own(0), NOW_MS + GHOST_COMES_WITHIN_MS);
      expect(names(later.effects)).toEqual(["look"]);
    });
  });

  it("stays at home when the call has ended meanwhile", () => {
    const looking = play(signedIn(), sync(LEG));
    const { state } = play(looking.state, { t: "looked", call_id: "c1", view: view("c1", { phase: "ended" }) });
    expect(screenOf(state)).toBe("home");
  });
});

describe("a connection that comes back", () => {
  it("restarts ICE in a call", () => {
    const leg = push("leg_joined", "c1", { leg: 1, my_leg: 1 });
    expect(names(play(talking(), sync(leg)).effects)).toEqual(["restart"]);
  });

  it("asks for a call of which the server says nothing, and believes the answer", () => {
    const asked = play(talking(), sync());
    expect(names(asked.effects)).toEqual(["look"]);
    const over = view("c1", { phase: "ended", ended: { at: "", reason: "hangup" } });
    expect(play(asked.state, { t: "looked", call_id: "c1", view: over }).state.ended?.cause).toBe("hung-up");
    expect(play(asked.state, { t: "looked", call_id: "c1", view: null }).state.ended?.cause).toBe("connection-lost");
  });
});

describe("a camera that cannot be opened", () => {
  it("after the call was given up, leaves nothing that waits for an answer", () => {
    const leg = push("leg_joined", "c2", { leg: 1, my_leg: 1 });
    const given_up = play(signedIn(), DIAL, { t: "hang_up" }, live(leg));
    expect(given_up.state.doubted).toHaveLength(1);
    const { state, effects } = play(given_up.state, { t: "no_media", attempt: 1, problem: "camera" });
    expect(state).toMatchObject({ abandoned: [], doubted: [] });
    expect(names(effects)).toContain("look");
  });

  it("is done without, then the microphone too, then the user only listens", () => {
    let { state, effects } = play(signedIn(), DIAL, { t: "no_media", attempt: 1, problem: "camera" });
    expect(screenOf(state)).toBe("media");
    ({ state, effects } = play(state, { t: "go_on" }));
    expect(effects).toMatchObject([{ t: "dial", attempt: 1, sends: { microphone: true, camera: false } }]);
    ({ state, effects } = play(state, { t: "no_media", attempt: 1, problem: "microphone" }, { t: "go_on" }));
    expect(effects).toMatchObject([{ t: "dial", sends: { microphone: false, camera: false } }]);
  });

  it("is a reason to decline", () => {
    const asked = play(signedIn(), live(offer("c1")), { t: "accept", camera: true }, { t: "no_media", attempt: 1, problem: "camera" });
    const { state, effects } = play(asked.state, { t: "home" });
    expect(screenOf(state)).toBe("home");
    expect(names(effects)).toContain("reject");
  });
});

describe("a phone that is opened in another tab", () => {
  it("says so, gives up nothing for good, and can be taken over", () => {
    let { state, effects } = play(talking(), { t: "socket", socket: "elsewhere" });
    expect(state.ended?.cause).toBe("elsewhere");
    expect(names(effects)).toEqual(["close_line"]);
    ({ state, effects } = play(state, { t: "take_over" }));
    expect(names(effects)).toEqual(["connect"]);
    expect(names(play(state, sync(push("leg_joined", "c1", { leg: 1, my_leg: 1 }))).effects)).toEqual(["look"]);
  });
});

describe("signing in", () => {
  const failed = (status: number): Event => ({ t: "sign_in_failed", failure: refusal(status, "x") });

  it("is tried again while the server is away, and not when it refuses", () => {
    const away = play(INITIAL, { t: "sign_in", account: "alice" }, failed(0));
    expect(names(away.effects)).toEqual(["sign_in", "timer"]);
    expect(names(play(away.state, { t: "sign_in_again", account: "alice" }).effects)).toEqual(["sign_in"]);
    expect(names(play(away.state, { t: "sign_in_again", account: "bob" }).effects)).toEqual([]);
    expect(names(play(INITIAL, { t: "sign_in", account: "alice" }, failed(429)).effects)).toEqual(["sign_in"]);
  });
});

describe("what concerns nobody here", () => {
  it("changes nothing and is acknowledged", () => {
    const before = signedIn();
    const { state, effects } = play(before, live(push("signal", "c9", { id: "s9" })), live(push("ended", "c9")));
    expect(state).toEqual(before);
    expect(effects).toEqual([{ t: "ack", ids: ["s9"] }]);
  });

  it("comes of an attempt that is over", () => {
    const before = talking();
    expect(play(before, { t: "media_down", attempt: 0 }, { t: "no_media", attempt: 7, problem: "camera" }).state).toEqual(before);
  });

  it("was missed while nobody was here", () => {
    const { effects } = play(signedIn(), sync(push("missed", "c3", { id: "m3", from: BOB, media: "audio", age_ms: 1_000 })));
    expect(effects).toMatchObject([
      { t: "remember", entry: { kind: "missed", peer: "bob", at_ms: NOW_MS - 1_000 } },
      { t: "ack", ids: ["m3"] },
    ]);
  });
});
