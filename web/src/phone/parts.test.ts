import { describe, expect, it, vi } from "vitest";
import { Api } from "./api.ts";
import { fromBase64, toBase64 } from "./base64.ts";
import { History } from "./history.ts";
import { deviceOf } from "./identity.ts";
import { Inbox } from "./inbox.ts";
import { jitteredMs } from "./jitter.ts";
import { PAUSE_FIRST_MS, PAUSE_LONGEST_MS } from "./limits.ts";
import { decode, encode } from "./payload.ts";
import { Refused } from "./requests.ts";
import { deviceStatement, prekeyStatement, verify } from "./sealing/statements.ts";
import { MemoryStore } from "./sealing/store.ts";
import { push } from "./testing.ts";
import { span } from "./words.ts";
import { parseFrame } from "./wire.ts";

function storage(): Pick<Storage, "getItem" | "setItem"> {
  const kept = new Map<string, string>();
  return { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => void kept.set(name, value) };
}

function answer(status: number, body: object, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

/** Answers the token requests itself, and hands the others over one by one. */
function server(...answers: (Response | Error)[]) {
  const asked: { url: string; init: RequestInit }[] = [];
  let tokens = 0;
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    if (url.endsWith("/v1/dev/tokens")) return answer(200, { token: `token${(tokens += 1)}` });
    asked.push({ url, init });
    const next = answers.shift() ?? answer(500, {});
    if (next instanceof Error) throw next;
    return next;
  };
  const api = new Api({ api: "http://api", connect: "" }, "alice", "dev_a", fetch, () => 0);
  return { api, asked };
}

function authorization(init: RequestInit): string | undefined {
  return (init.headers as Record<string, string>)["authorization"];
}

describe("a request", () => {
  it("is asked again with the same key after no answer and after a 503", async () => {
    const { api, asked } = server(new Error("offline"), answer(503, { code: "store_away" }), answer(201, { call_id: "c1" }));
    const place = await api.place("bob", "audio", new Map(), new Map(), "key1");
    expect(place.call_id).toBe("c1");
    expect(asked.map(({ init }) => (init.headers as Record<string, string>)["idempotency-key"])).toEqual(["key1", "key1", "key1"]);
  });

  it("is asked with a new token once after a 401", async () => {
    const { api, asked } = server(answer(401, { code: "unauthorized" }), answer(401, { code: "unauthorized" }));
    await expect(api.look("c1")).rejects.toThrow(Refused);
    expect(asked.map(({ init }) => authorization(init))).toEqual(["Bearer token1", "Bearer token2"]);
  });

  it("tells what the server said, and when to ask again", async () => {
    const { api } = server(answer(429, { code: "call_quota", title: "Too many" }, { "retry-after": "9" }));
    const error = await api.look("c1").catch((e: unknown) => e);
    expect(error).toMatchObject({ failure: { status: 429, code: "call_quota", title: "Too many", retry_after_ms: 9_000 } });
  });

  it("is not asked again at once when the server wants a long pause", async () => {
    const { api, asked } = server(answer(503, { code: "overloaded", retry_after_ms: 60_000 }));
    await expect(api.look("c1")).rejects.toThrow(Refused);
    expect(asked).toHaveLength(1);
  });
});

describe("an answer without a body", () => {
  it("is one", async () => {
    const { api, asked } = server(new Response(null, { status: 204 }));
    await api.endorse("dev_b", "AA==");
    expect(asked[0]?.url).toBe("http://api/v1/devices/dev_b/endorsement");
    expect(asked[0]?.init.body).toBe('{"endorsement":"AA=="}');
  });
});

describe("a device", () => {
  const around = (claim: (name: string) => Promise<boolean>, storage_ = storage(), store = new MemoryStore()) => {
    return { storage: storage_, store, uuid: () => crypto.randomUUID(), now_ms: () => 1_000, claim, pause: async () => undefined };
  };
  const always = async (): Promise<boolean> => true;
  /** Claims that stay with whoever asked first, as those of another tab do. */
  const locks = () => {
    const held = new Set<string>();
    return async (name: string): Promise<boolean> => !held.has(name) && held.add(name) !== undefined;
  };

  it("is the same after a reload, with a prekey and an endorsement that hold, and no secret in the session", async () => {
    const [kept, store] = [storage(), new MemoryStore()];
    const first = await deviceOf("alice", around(always, kept, store));
    const { identity, signed_prekey, endorsement } = first.registration;
    expect((await deviceOf("alice", around(always, kept, store))).registration).toEqual(first.registration);
    expect(kept.getItem("tandem.phone.device.alice")).toBe(first.name.device);
    expect(first.name.device).toMatch(/^dev_[A-Za-z0-9]{32}$/);
    const [sign, agree, prekey] = [identity.sign, identity.agree, signed_prekey.key].map(fromBase64);
    if (sign === undefined || agree === undefined || prekey === undefined) throw new Error("keys are missing");
    expect([sign.length, agree.length, prekey.length]).toEqual([32, 32, 32]);
    const said = prekeyStatement(first.name, signed_prekey.id, prekey);
    expect(await verify(sign, fromBase64(signed_prekey.signature), said)).toBe(true);
    expect(await verify(sign, fromBase64(endorsement), deviceStatement(first.name, sign, agree, "device"))).toBe(true);
  });

  it("is another for another account, and for a duplicated tab", async () => {
    const [kept, store, claim] = [storage(), new MemoryStore(), locks()];
    const first = await deviceOf("alice", around(claim, kept, store));
    expect((await deviceOf("bob", around(claim, kept, store))).name.device).not.toBe(first.name.device);
    expect((await deviceOf("alice", around(claim, kept, store))).name.device).not.toBe(first.name.device);
  });

  it("is taken up by a new tab when its own is closed", async () => {
    const store = new MemoryStore();
    const first = await deviceOf("alice", around(locks(), storage(), store));
    expect((await deviceOf("alice", around(locks(), storage(), store))).name).toEqual(first.name);
  });

  it("waits for the lock that the document before a reload still holds", async () => {
    const [kept, store] = [storage(), new MemoryStore()];
    const first = await deviceOf("alice", around(always, kept, store));
    const claim = vi.fn().mockResolvedValueOnce(false).mockResolvedValue(true);
    expect((await deviceOf("alice", around(claim, kept, store))).name.device).toBe(first.name.device);
  });
});

describe("a payload", () => {
  it("survives the way, and what is none is none", () => {
    const sends = { microphone: true, camera: false };
    const said = { v: 1, t: "restart-offer", pc: "p", to: null, n: 2, fresh: true, sdp: "v=0\r\n", sends } as const;
    expect(decode(encode(said))).toEqual(said);
    for (const text of ["", "null", "[]", '{"v":2,"t":"media"}', '{"v":1,"t":"answer","pc":1}']) {
      expect(decode(new TextEncoder().encode(text))).toBeNull();
    }
  });

  it("is base64 with padding", () => {
    expect(toBase64(new Uint8Array([255]))).toBe("/w==");
    expect(fromBase64("/w==")).toEqual(new Uint8Array([255]));
  });
});

describe("a frame", () => {
  it("keeps the fields that have the right kind", () => {
    expect(parseFrame('{"type":"call.offer","call_id":"c","revision":3,"media":"smell","from":{"account":"b"},"leg":"x"}')).toEqual({
      type: "call.offer",
      call_id: "c",
      revision: 3,
      age_ms: 0,
    });
    expect(parseFrame("nonsense")).toBeNull();
  });
});

describe("the inbox", () => {
  it("lets a signal through once, and an offer until it is acknowledged", () => {
    const inbox = new Inbox();
    const signal = push("signal", "c1", { id: "s1" });
    const ring = push("offer", "c1", { id: "o1" });
    expect([inbox.admit(signal), inbox.admit(signal)]).toEqual(["new", "in_hand"]);
    expect([inbox.admit(ring), inbox.admit(ring)]).toEqual(["new", "new"]);
    inbox.done(["s1", "o1"]);
    expect([inbox.admit(signal), inbox.admit(ring)]).toEqual(["done", "done"]);
  });
});

describe("small things", () => {
  it("waits between the first and the longest pause", () => {
    expect(jitteredMs(0, 1)).toBe(PAUSE_FIRST_MS);
    expect(jitteredMs(PAUSE_FIRST_MS, 1)).toBe(3 * PAUSE_FIRST_MS);
    expect(jitteredMs(60_000, 1)).toBe(PAUSE_LONGEST_MS);
  });

  it("writes spans", () => {
    expect([span(7_900), span(725_000), span(3_725_000)]).toEqual(["0:07", "12:05", "1:02:05"]);
  });

  it("keeps a call in the history once", () => {
    const history = new History(storage(), "alice");
    const entry = { call_id: "c1", at_ms: 1, peer: "bob", media: "audio", duration_ms: null } as const;
    history.add({ ...entry, kind: "answered" });
    history.add({ ...entry, kind: "missed" });
    expect(history.entries.map(({ kind }) => kind)).toEqual(["answered"]);
  });
});
