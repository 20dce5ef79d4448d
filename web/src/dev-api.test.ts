import { expect, test } from "vitest";
import { ApiError, DevApi } from "./dev-api.ts";

function answering(status: number, body: string, seen: { url: string; init: RequestInit }[] = []): DevApi {
  return new DevApi(async (url, init) => {
    seen.push({ url, init });
    return new Response(body, { status });
  });
}

async function failure(work: Promise<unknown>): Promise<ApiError> {
  const error = await work.then(
    () => null,
    (e: unknown) => e,
  );
  if (!(error instanceof ApiError)) throw new Error("no ApiError");
  return error;
}

test("a signal is posted to its leg as JSON", async () => {
  const seen: { url: string; init: RequestInit }[] = [];
  await answering(200, '{"seq":3}', seen).sendSignal("call_a", 2, { kind: "hello" });
  expect(seen[0]?.url).toBe("/v1/dev/demo/call_a/legs/2/signal");
  expect(seen[0]?.init).toMatchObject({ method: "POST", body: '{"kind":"hello"}' });
});

test("a poll names what it has and how long it waits", async () => {
  const seen: { url: string; init: RequestInit }[] = [];
  await answering(200, '{"items":[]}', seen).pollSignals("call_a", 1, 7, 20_000, 30_000);
  expect(seen[0]?.url).toBe("/v1/dev/demo/call_a/legs/1/signal?after=7&wait_ms=20000");
});

test("an order to a process names it, and says how long it stays away", async () => {
  const seen: { url: string; init: RequestInit }[] = [];
  const api = answering(200, "{}", seen);
  await api.kill("relay-2", { restart_after_ms: 5_000 });
  await api.pause("etcd-1");
  await api.resume("etcd-1");
  expect(seen.map(({ url, init }) => `${url} ${String(init.body)}`)).toEqual([
    '/v1/dev/processes/relay-2/kill {"restart_after_ms":5000}',
    "/v1/dev/processes/etcd-1/pause {}",
    "/v1/dev/processes/etcd-1/resume {}",
  ]);
});

test("a problem is told by its title", async () => {
  const error = await failure(answering(404, '{"title":"No such call","status":404}').processes());
  expect(error).toMatchObject({ status: 404, message: "No such call", again: false });
});

test("an error that is not JSON is told by its status", async () => {
  expect(await failure(answering(502, "<html>").processes())).toMatchObject({ message: "Status 502", again: true });
});

test("no answer may be tried again, and says so", async () => {
  const api = new DevApi(() => Promise.reject(new TypeError("network")));
  expect(await failure(api.join("s"))).toMatchObject({ status: 0, again: true });
});

test("an answer cut short may be tried again", async () => {
  expect(await failure(answering(200, '{"items":').processes())).toMatchObject({ status: 0, again: true });
});
