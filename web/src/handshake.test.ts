import { expect, test } from "vitest";
import { type Action, Handshake, type Message, parseMessage } from "./handshake.ts";

/** Two lives that hand each other every message at once, and note what each is told to do. */
class Tab {
  readonly handshake: Handshake;
  readonly told: Action["do"][] = [];
  other: Tab | null = null;

  constructor(name: string, leg: number) {
    this.handshake = new Handshake(name, leg);
  }

  say(message: Message): void {
    this.other?.hear(message);
  }

  hear(message: Message): void {
    for (const action of this.handshake.receive(message)) {
      if (action.do !== "ignore") this.told.push(action.do);
      const { handshake } = this;
      if (action.do === "greet") this.say(handshake.address({ kind: "hello" }));
      if (action.do === "offer") this.say(handshake.address({ kind: "offer", round: handshake.round, sdp: "o" }));
      if (action.do === "answer") this.say(handshake.address({ kind: "answer", round: handshake.round, sdp: "a" }));
    }
  }
}

function join(a: Tab, b: Tab): void {
  a.other = b;
  b.other = a;
}

test("leg 2 comes second: leg 1 offers, leg 2 answers, once", () => {
  const [one, two] = [new Tab("one", 1), new Tab("two", 2)];
  one.handshake.address({ kind: "hello" }); // Nobody was there to hear it.
  join(one, two);
  two.say(two.handshake.address({ kind: "hello" }));
  expect(one.told).toEqual(["greet", "offer", "accept"]);
  expect(two.told).toEqual(["answer"]);
});

test("leg 1 comes second: leg 2 greets it, and leg 1 offers, once", () => {
  const [one, two] = [new Tab("one", 1), new Tab("two", 2)];
  two.handshake.address({ kind: "hello" });
  join(one, two);
  one.say(one.handshake.address({ kind: "hello" }));
  expect(two.told).toEqual(["greet", "answer"]);
  expect(one.told).toEqual(["offer", "accept"]);
});

test("both greet at the same moment: still one offer and one answer", () => {
  const [one, two] = [new Tab("one", 1), new Tab("two", 2)];
  const hellos = [one.handshake.address({ kind: "hello" }), two.handshake.address({ kind: "hello" })] as const;
  join(one, two);
  two.hear(hellos[0]);
  one.hear(hellos[1]);
  expect(one.told.filter((t) => t === "offer")).toHaveLength(1);
  expect(two.told.filter((t) => t === "answer")).toHaveLength(1);
  expect(one.told.at(-1)).toBe("accept");
});

test("a reloaded leg 2 is a new life: leg 1 offers again in a new round", () => {
  const [one, two, again] = [new Tab("one", 1), new Tab("two", 2), new Tab("two again", 2)];
  join(one, two);
  two.say(two.handshake.address({ kind: "hello" }));
  const first = one.handshake.round;
  join(one, again);
  again.say(again.handshake.address({ kind: "hello" }));
  expect(again.told).toEqual(["answer"]);
  expect(one.handshake.round).toBe(first + 1);
  expect(one.handshake.peer).toBe("two again");
});

test("a reloaded leg 1 offers to the leg 2 that stayed", () => {
  const [one, two, again] = [new Tab("one", 1), new Tab("two", 2), new Tab("one again", 1)];
  join(one, two);
  one.say(one.handshake.address({ kind: "hello" }));
  join(again, two);
  again.say(again.handshake.address({ kind: "hello" }));
  expect(two.told).toEqual(["greet", "answer", "greet", "answer"]);
  expect(again.told).toEqual(["offer", "accept"]);
});

test("messages for another life, or from a former one, are ignored", () => {
  const one = new Handshake("one", 1);
  const [old, now] = [new Handshake("old", 2), new Handshake("now", 2)];
  one.receive(old.address({ kind: "hello" }));
  one.receive(now.address({ kind: "hello" }));
  expect(one.receive(old.address({ kind: "hello" }))).toEqual([{ do: "ignore" }]);
  expect(one.receive(old.address({ kind: "bye" }))).toEqual([{ do: "ignore" }]);
  expect(one.peer).toBe("now");
  const foreign = { ...now.address({ kind: "bye" }), to: "someone else" };
  expect(one.receive(foreign)).toEqual([{ do: "ignore" }]);
});

test("a message that arrives twice counts once", () => {
  const one = new Handshake("one", 1);
  const two = new Handshake("two", 2);
  const hello = two.address({ kind: "hello" });
  expect(one.receive(hello)).toHaveLength(2);
  expect(one.receive(hello)).toEqual([{ do: "ignore" }]);
  const candidate = two.address({ kind: "candidate", round: one.round, candidate: { candidate: "c" } });
  expect(one.receive(candidate)[0]?.do).toBe("add_candidate");
  expect(one.receive(candidate)).toEqual([{ do: "ignore" }]);
});

test("answers and candidates of an earlier round are ignored", () => {
  const one = new Handshake("one", 1);
  const [two, again] = [new Handshake("two", 2), new Handshake("again", 2)];
  one.receive(two.address({ kind: "hello" }));
  one.receive(again.address({ kind: "hello" }));
  expect(one.round).toBe(2);
  expect(one.receive(again.address({ kind: "answer", round: 1, sdp: "late" }))).toEqual([{ do: "ignore" }]);
  expect(one.receive(again.address({ kind: "candidate", round: 1, candidate: {} }))).toEqual([{ do: "ignore" }]);
  expect(one.receive(again.address({ kind: "answer", round: 2, sdp: "now" }))).toEqual([{ do: "accept", sdp: "now" }]);
});

test("leg 1 never answers an offer, and leg 2 never takes an answer", () => {
  const [one, two] = [new Handshake("one", 1), new Handshake("two", 2)];
  expect(one.receive(two.address({ kind: "offer", round: 1, sdp: "x" }))).toEqual([{ do: "ignore" }]);
  expect(two.receive(one.address({ kind: "answer", round: 1, sdp: "x" }))).toEqual([{ do: "ignore" }]);
});

test("a bye ends the pairing, and a new greeting starts over", () => {
  const one = new Handshake("one", 1);
  const [two, again] = [new Handshake("two", 2), new Handshake("again", 2)];
  one.receive(two.address({ kind: "hello" }));
  expect(one.receive(two.address({ kind: "bye" }))).toEqual([{ do: "peer_left" }]);
  expect(one.peer).toBeNull();
  expect(one.receive(again.address({ kind: "hello" }))).toEqual([{ do: "greet" }, { do: "offer" }]);
});

test("only whole messages are taken", () => {
  const envelope = { from: "a", to: null, n: 1 };
  expect(parseMessage({ ...envelope, kind: "hello", extra: 1 })).toEqual({ ...envelope, kind: "hello" });
  expect(parseMessage({ ...envelope, kind: "offer", round: 1, sdp: "s" })).not.toBeNull();
  for (const bad of [
    null,
    "hello",
    {},
    { ...envelope },
    { ...envelope, kind: "shout" },
    { ...envelope, n: "1", kind: "hello" },
    { ...envelope, to: 7, kind: "hello" },
    { ...envelope, kind: "offer", round: 1 },
    { ...envelope, kind: "answer", sdp: "s" },
    { ...envelope, kind: "candidate", round: 1, candidate: null },
  ]) {
    expect(parseMessage(bad)).toBeNull();
  }
});
