// The development endpoints of `tandem dev`, typed. It turns HTTP answers into values or one kind of error;
// whether to try again is the caller's decision, by `ApiError.again`.

import { REQUEST_TIMEOUT_MS } from "./limits.ts";

export interface Joined {
  call_id: string;
  leg: number;
  ice_servers: RTCIceServer[];
}

export interface Process {
  name: string;
  pid: number | null;
  state: "starting" | "ready" | "down" | "paused";
  starts: number;
  started_at_ms: number;
  ready_at_ms: number | null;
  down_at_ms: number | null;
  outage_ms: number | null;
}

export interface KillOptions {
  /** How long it stays away at least. */
  restart_after_ms?: number;
}

export interface SignalItem {
  seq: number;
  message: unknown;
}

/** An answer that is not a success, or none at all (`status` 0). */
export class ApiError extends Error {
  readonly status: number;
  /** May the same request succeed later? Yes without an answer, when refused for load, and for the server's own faults. */
  readonly again: boolean;

  constructor(status: number, title: string) {
    super(title);
    this.name = "ApiError";
    this.status = status;
    this.again = status === 0 || status === 408 || status === 429 || status >= 500;
  }
}

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export class DevApi {
  readonly #fetch: Fetch;

  constructor(fetch: Fetch) {
    this.#fetch = fetch;
  }

  join(session: string): Promise<Joined> {
    return this.#request("POST", "/v1/dev/demo/join", { body: { session } });
  }

  sendSignal(call_id: string, leg: number, message: object, signal?: AbortSignal): Promise<{ seq: number }> {
    return this.#request("POST", signalPath(call_id, leg), { body: message, ...(signal && { signal }) });
  }

  /** The last words of a closing tab: sent even while the page goes away, and no answer is awaited. */
  sendLastSignal(call_id: string, leg: number, message: object): void {
    const init = { method: "POST", headers: JSON_TYPE, body: JSON.stringify(message), keepalive: true };
    void this.#fetch(signalPath(call_id, leg), init).catch(() => undefined);
  }

  pollSignals(
    call_id: string,
    leg: number,
    after: number,
    wait_ms: number,
    timeout_ms: number,
    signal?: AbortSignal,
  ): Promise<{ items: SignalItem[] }> {
    const path = `${signalPath(call_id, leg)}?after=${after}&wait_ms=${wait_ms}`;
    return this.#request("GET", path, { timeout_ms, ...(signal && { signal }) });
  }

  processes(): Promise<{ items: Process[] }> {
    return this.#request("GET", "/v1/dev/processes", {});
  }

  kill(name: string, options: KillOptions = {}): Promise<{ pid: number | null }> {
    return this.#request("POST", processPath(name, "kill"), { body: options });
  }

  async pause(name: string): Promise<void> {
    await this.#request("POST", processPath(name, "pause"), { body: {} });
  }

  async resume(name: string): Promise<void> {
    await this.#request("POST", processPath(name, "resume"), { body: {} });
  }

  async #request<T>(
    method: string,
    path: string,
    { body, timeout_ms = REQUEST_TIMEOUT_MS, signal }: { body?: object; timeout_ms?: number; signal?: AbortSignal },
  ): Promise<T> {
    const timeout = AbortSignal.timeout(timeout_ms);
    const init: RequestInit = {
      method,
      cache: "no-store",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      ...(body !== undefined && { headers: JSON_TYPE, body: JSON.stringify(body) }),
    };
    try {
      const response = await this.#fetch(path, init);
      if (!response.ok) throw new ApiError(response.status, await problemTitle(response));
      return (await response.json()) as T;
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError(0, "No answer from the development server");
    }
  }
}

const JSON_TYPE = { "content-type": "application/json" };

function signalPath(call_id: string, leg: number): string {
  return `/v1/dev/demo/${encodeURIComponent(call_id)}/legs/${leg}/signal`;
}

function processPath(name: string, order: string): string {
  return `/v1/dev/processes/${encodeURIComponent(name)}/${order}`;
}

/** RFC 9457 problems say what they are; anything else is named by its status. */
async function problemTitle(response: Response): Promise<string> {
  try {
    const problem: unknown = await response.json();
    if (typeof problem === "object" && problem !== null && "title" in problem && typeof problem.title === "string") {
      return problem.title;
    }
  } catch {
    // Not JSON: the status has to do.
  }
  return `Status ${response.status}`;
}
