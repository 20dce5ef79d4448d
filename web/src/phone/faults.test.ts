import { describe, expect, it } from "vitest";
import { ApiError, type Process } from "../dev-api.ts";
import { type Faults, FaultsWatch, lineOf } from "./faults.ts";
import { FAULTS_LOOK_MS } from "./limits.ts";

const RELAY: Process = {
  name: "relay-1",
  pid: 7,
  state: "ready",
  starts: 1,
  started_at_ms: 1,
  ready_at_ms: 2,
  down_at_ms: null,
  outage_ms: null,
};

type Answer = Process[] | ApiError;

/** Answers the looks one by one, the last answer for ever, and lets time pass by hand. */
function around(...answers: Answer[]) {
  const asked: string[] = [];
  const shown: Faults[] = [];
  const timers = new Map<() => void, number>();
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  };
  const refuse = { next: null as ApiError | null };
  const give = async (order: string): Promise<{ pid: null }> => {
    asked.push(order);
    const { next } = refuse;
    refuse.next = null;
    if (next !== null) throw next;
    return { pid: null };
  };
  const watch = new FaultsWatch({
    api: {
      processes: async () => {
        asked.push("look");
        const answer = answers.length > 1 ? answers.shift() : answers[0];
        if (answer === undefined || answer instanceof ApiError) throw answer ?? new ApiError(0, "nothing");
        return { items: answer };
      },
      kill: (name, options) => give(`kill ${name} ${options?.restart_after_ms}`),
      pause: async (name) => void (await give(`pause ${name}`)),
      resume: async (name) => void (await give(`resume ${name}`)),
    },
    changed: (faults) => shown.push(faults),
    later: (work, ms) => {
      timers.set(work, ms);
      return () => timers.delete(work);
    },
  });
  const pass = async (): Promise<void> => {
    for (const work of [...timers.keys()]) {
      timers.delete(work);
      work();
    }
    await settle();
  };
  return { watch, asked, shown, timers, pass, settle, refuse };
}

describe("the fault panel", () => {
  it("is there where there are processes, and not where nobody knows of any", async () => {
    expect(await around([RELAY]).watch.isThere()).toBe(true);
    expect(await around(new ApiError(404, "Not found")).watch.isThere()).toBe(false);
    expect(await around(new ApiError(403, "Foreign")).watch.isThere()).toBe(false);
    expect(await around(new ApiError(0, "No answer")).watch.isThere()).toBe(true);
  });

  it("looks once a second while it is open, and not when it is closed", async () => {
    const { watch, asked, timers, pass, settle } = around([RELAY]);
    watch.open();
    await settle();
    expect([...timers.values()]).toEqual([FAULTS_LOOK_MS]);
    await pass();
    await pass();
    expect(asked).toEqual(["look", "look", "look"]);
    watch.close();
    expect(timers.size).toBe(0);
    await pass();
    expect(asked).toHaveLength(3);
  });

  it("plans no look when it was closed while one was on its way", async () => {
    const { watch, shown, timers, settle } = around([RELAY]);
    watch.open();
    watch.close();
    await settle();
    expect(timers.size).toBe(0);
    expect(shown.at(-1)?.processes).toBeNull();
  });

  it("looks at once after an order, and has one look planned, not two", async () => {
    const { watch, asked, shown, timers, settle } = around([RELAY]);
    watch.open();
    await settle();
    await watch.order("relay-1", "kill", 5_000);
    await watch.order("relay-1", "pause", 5_000);
    await watch.order("relay-1", "resume", 5_000);
    expect(asked).toEqual(["look", "kill relay-1 5000", "look", "pause relay-1", "look", "resume relay-1", "look"]);
    expect(timers.size).toBe(1);
    expect(new Set(shown.map(({ note }) => note))).toEqual(
      new Set(["", "relay-1 was killed, and stays away for 5 s.", "relay-1 stands still.", "relay-1 goes on."]),
    );
  });

  it("says why an order was refused", async () => {
    const { watch, shown, refuse } = around([RELAY]);
    refuse.next = new ApiError(409, "The process does not run now");
    await watch.order("relay-1", "pause", 0);
    expect(shown.at(-1)?.note).toBe("relay-1: The process does not run now.");
  });

  it("keeps what it last heard while nobody answers, and says so until somebody does", async () => {
    const { watch, shown, pass, settle } = around([RELAY], new ApiError(0, "No answer"), [RELAY]);
    watch.open();
    await settle();
    await pass();
    expect(shown.at(-1)).toEqual({ processes: [RELAY], note: "tandem dev does not answer." });
    await pass();
    expect(shown.at(-1)).toEqual({ processes: [RELAY], note: "" });
  });
});

describe("a line of the fault panel", () => {
  it("offers what can be done in each state", () => {
    const offers = (state: Process["state"]) => {
      const { text, tone, kill, second } = lineOf({ ...RELAY, state });
      return [text, tone, kill, second];
    };
    expect(offers("ready")).toEqual(["runs", "good", true, "pause"]);
    expect(offers("starting")).toEqual(["starts", "warn", true, "pause"]);
    expect(offers("paused")).toEqual(["paused", "warn", true, "resume"]);
    expect(offers("down")).toEqual(["down", "bad", false, null]);
  });

  it("says how long the process was away the last time", () => {
    expect(lineOf({ ...RELAY, outage_ms: 84 }).text).toBe("runs · last away 84 ms");
    expect(lineOf({ ...RELAY, outage_ms: 3_120 }).text).toBe("runs · last away 3120 ms");
  });
});
