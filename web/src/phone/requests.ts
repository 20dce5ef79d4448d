// One request to the server, and when to ask again: a new token after a 401, a pause after no answer or a 503.
// Decides nothing about what is asked; that is api.ts.

import { pause } from "../backoff.ts";
import type { Failure } from "./causes.ts";
import { jitteredMs } from "./jitter.ts";
import { REQUEST_TIMEOUT_MS, REQUEST_TRIES, RETRY_AFTER_LONGEST_MS } from "./limits.ts";
import { SealError } from "./sealing/errors.ts";

/** A request that was not done. */
export class Refused extends Error {
  readonly failure: Failure;
  constructor(failure: Failure) {
    super(failure.title);
    this.name = "Refused";
    this.failure = failure;
  }
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface Surroundings {
  fetch: Fetch;
  random(): number;
  /** A token that is good; `anew`: the last one was not. */
  token(anew: boolean): Promise<string>;
}

export interface Asked {
  method: "GET" | "POST" | "PUT";
  url: string;
  body?: object;
  headers?: Record<string, string>;
  /** How often it is asked in all, when there is no answer or a 503. */
  tries?: number;
  /** Ends the asking; the request that is under way ends with it. */
  signal?: AbortSignal;
}

const NEVER = new AbortController().signal;

/** Asks, with a token, until there is an answer that stands. Throws `Refused`. */
export async function ask<T>(around: Surroundings, asked: Asked): Promise<T> {
  const { tries = REQUEST_TRIES, signal = NEVER } = asked;
  let waited_ms = 0;
  let renewed = false;
  for (let tried = 1; ; ) {
    try {
      return await once<T>(around.fetch, asked, await around.token(false));
    } catch (error) {
      const failure = failureOf(error);
      if (failure.status === 401 && !renewed) {
        renewed = true;
        await around.token(true);
        continue;
      }
      const again = failure.status === 0 || failure.status === 503;
      const told_ms = failure.retry_after_ms ?? 0;
      if (!again || tried >= tries || told_ms > RETRY_AFTER_LONGEST_MS || signal.aborted) throw new Refused(failure);
      tried += 1;
      waited_ms = jitteredMs(waited_ms, around.random());
      await pause(Math.max(waited_ms, told_ms), signal);
    }
  }
}

/** Asks once; without a token where none is needed. Throws `Refused`. */
export async function once<T>(fetch: Fetch, asked: Asked, token: string | null): Promise<T> {
  const { method, url, body, headers = {}, signal = NEVER } = asked;
  const init: RequestInit = {
    method,
    cache: "no-store",
    signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    headers: {
      ...headers,
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
    },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  };
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch {
    throw new Refused(NO_ANSWER);
  }
  if (!response.ok) throw new Refused(await problem(response));
  if (response.status === 204) return undefined as T;
  try {
    return (await response.json()) as T;
  } catch {
    // A body that broke off: the request may have been done, so it is asked again as after no answer.
    throw new Refused(NO_ANSWER);
  }
}

export const NO_ANSWER: Failure = {
  status: 0,
  code: "no_answer",
  title: "The server does not answer",
  retry_after_ms: null,
  call_id: null,
  reason: null,
};

/** What was thrown, as a failure. What neither the server nor the seal refused is a fault of this page, and says so. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Refused) return error.failure;
  if (error instanceof SealError) return { ...NO_ANSWER, status: 1, code: error.fault, title: "Not as it was sealed" };
  return { ...NO_ANSWER, status: 1, code: "page", title: error instanceof Error ? error.message : "unknown" };
}

async function problem(response: Response): Promise<Failure> {
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  const header_ms = Number.isFinite(seconds) ? seconds * 1000 : null;
  let fields: Record<string, unknown> = {};
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null) fields = body as Record<string, unknown>;
  } catch {
    // Not JSON: the status has to do.
  }
  const text = (name: string): string | null => {
    const field = fields[name];
    return typeof field === "string" ? field : null;
  };
  const told_ms = fields["retry_after_ms"];
  return {
    status: response.status,
    code: text("code") ?? "unknown",
    title: text("title") ?? `Status ${response.status}`,
    retry_after_ms: typeof told_ms === "number" ? told_ms : header_ms,
    call_id: text("call_id"),
    reason: text("reason"),
  };
}
