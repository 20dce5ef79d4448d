import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { backoffMs } from "./backoff.ts";
import { ApiError, type SignalItem } from "./dev-api.ts";
import { BACKOFF_LONGEST_MS, OUTBOX_MAX } from "./limits.ts";
import { Outbox, receive, type Route, skipBacklog } from "./signaling.ts";

const NO_ANSWER = new ApiError(0, "no answer");
const GONE = new ApiError(404, "gone");

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

interface Fake {
  route: Route;
  ending: AbortController;
  sent: object[];
  polls: { after: number; wait_ms: number }[];
  states: string[];
}

/** A server that answers sends and polls from two scripts; an error in a script is thrown. */
function fake(sends: (ApiError | "ok")[], polls: (ApiError | SignalItem[])[] = []): Fake {
  const ending = new AbortController();
  const [sent, asked, states]: [object[], Fake["polls"], string[]] = [[], [], []];
  const route: Route = {
    call_id: "call_1",
    leg: 1,
    signal: ending.signal,
    onState: (state) => states.push(state),
    api: {
      sendSignal: async (_call, _leg, message) => {
        const next = sends.shift() ?? "ok";
        if (next !== "ok") throw next;
        sent.push(message);
        return { seq: sent.length };
      },
      pollSignals: async (_call, _leg, after, wait_ms, _timeout, signal) => {
        asked.push({ after, wait_ms });
        const next = polls.shift();
        if (next === undefined) {
          // Nothing more in the script: a long poll that only an abort ends.
          return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(NO_ANSWER)));
        }
        if (next instanceof ApiError) throw next;
        return { items: next };
      },
    },
  };
  return { route, ending, sent, polls: asked, states };
}

test("messages go out in order, one at a time", async () => {
  const { route, sent } = fake([]);
  const outbox = new Outbox(route);
  for (const n of [1, 2, 3]) expect(outbox.send({ n })).toBe(true);
  await vi.runAllTimersAsync();
  expect(sent).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test("after a network error the same message is tried again, and later ones wait for it", async () => {
  const { route, sent, states } = fake([NO_ANSWER, NO_ANSWER, "ok"]);
  const outbox = new Outbox(route);
  outbox.send({ n: 1 });
  outbox.send({ n: 2 });
  await vi.advanceTimersByTimeAsync(backoffMs(1));
  expect(sent).toEqual([]);
  await vi.advanceTimersByTimeAsync(backoffMs(2));
  expect(sent).toEqual([{ n: 1 }, { n: 2 }]);
  expect(states).toEqual(["lost", "back"]);
});

test("a message that the server refuses for good is dropped and counted; the next one goes", async () => {
  const { route, sent } = fake([new ApiError(413, "too large"), "ok"]);
  const outbox = new Outbox(route);
  outbox.send({ n: 1 });
  outbox.send({ n: 2 });
  await vi.runAllTimersAsync();
  expect(sent).toEqual([{ n: 2 }]);
  expect(outbox.dropped).toBe(1);
});

test("a full outbox says no and counts it", () => {
  const { route } = fake([NO_ANSWER]);
  const outbox = new Outbox(route);
  for (let n = 0; n < OUTBOX_MAX; n += 1) expect(outbox.send({ n })).toBe(true);
  expect(outbox.send({ n: OUTBOX_MAX })).toBe(false);
  expect(outbox.dropped).toBe(1);
  expect(outbox.waiting).toBe(OUTBOX_MAX);
});

test("nothing is sent after hanging up", async () => {
  const { route, ending, sent } = fake([NO_ANSWER]);
  const outbox = new Outbox(route);
  outbox.send({ n: 1 });
  await vi.advanceTimersByTimeAsync(0);
  ending.abort();
  await vi.runAllTimersAsync();
  expect(sent).toEqual([]);
});

test("what was sent before this life is skipped without waiting", async () => {
  const { route, polls } = fake([], [[{ seq: 1, message: {} }, { seq: 7, message: {} }]]);
  expect(await skipBacklog(route)).toBe(7);
  expect(polls).toEqual([{ after: 0, wait_ms: 0 }]);
});

test("messages are handed over in order, once, even when the server repeats them", async () => {
  const items = [1, 2, 3].map((seq) => ({ seq, message: seq }));
  const { route, ending, polls } = fake([], [items.slice(0, 2), items, []]);
  const seen: unknown[] = [];
  const done = receive(route, 0, async ({ message }) => {
    seen.push(message);
  });
  await vi.advanceTimersByTimeAsync(0);
  ending.abort();
  await done;
  expect(seen).toEqual([1, 2, 3]);
  expect(polls.map((p) => p.after)).toEqual([0, 2, 3, 3]);
});

test("the next message waits until the one before was dealt with", async () => {
  const { route, ending } = fake([], [[{ seq: 1, message: "slow" }, { seq: 2, message: "quick" }]]);
  const seen: unknown[] = [];
  const done = receive(route, 0, async ({ message }) => {
    if (message === "slow") await new Promise((resolve) => setTimeout(resolve, 100));
    seen.push(message);
  });
  await vi.advanceTimersByTimeAsync(99);
  expect(seen).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(seen).toEqual(["slow", "quick"]);
  ending.abort();
  await done;
});

test("a poll that fails is tried again with growing pauses, and goes on from where it was", async () => {
  const { route, ending, polls, states } = fake([], [[{ seq: 4, message: {} }], NO_ANSWER, new ApiError(503, "busy"), []]);
  const done = receive(route, 3, async () => undefined);
  await vi.advanceTimersByTimeAsync(0);
  expect(polls).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(backoffMs(1));
  expect(polls).toHaveLength(3);
  await vi.advanceTimersByTimeAsync(backoffMs(2));
  expect(polls.map((p) => p.after)).toEqual([3, 4, 4, 4, 4]);
  expect(states).toEqual(["lost", "back"]);
  ending.abort();
  await done;
});

test("a call that is gone ends the polling with an error", async () => {
  const { route } = fake([], [GONE]);
  await expect(receive(route, 0, async () => undefined)).rejects.toBe(GONE);
});

test("hanging up ends a waiting poll without an error", async () => {
  const { route, ending } = fake([], []);
  const done = receive(route, 0, async () => undefined);
  await vi.advanceTimersByTimeAsync(0);
  ending.abort();
  await expect(done).resolves.toBeUndefined();
});

test("pauses double from the first to the longest", () => {
  expect([1, 2, 3, 4, 5, 6, 60].map(backoffMs)).toEqual([250, 500, 1_000, 2_000, 4_000, BACKOFF_LONGEST_MS, BACKOFF_LONGEST_MS]);
});
