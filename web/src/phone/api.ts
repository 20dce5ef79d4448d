// The requests of docs/api.md, typed. Decides paths and bodies; when to ask again is requests.ts, what follows is not here.

import type { PhoneConfig } from "../phone";
import { toBase64 } from "./base64.ts";
import { NO_ANSWER, Refused, ask, once, type Asked, type Fetch, type Surroundings } from "./requests.ts";
import type { Registration } from "./sealing/keyring.ts";
import type { CallView, DeviceList, Media, Place } from "./wire.ts";

/** One sealed blob a device. */
export type SealedFor = ReadonlyMap<string, Uint8Array>;

export async function fetchConfig(fetch: Fetch): Promise<PhoneConfig> {
  return once<PhoneConfig>(fetch, { method: "GET", url: "/v1/dev/config" }, null);
}

export class Api {
  readonly #api: string;
  readonly #account: string;
  readonly #device: string;
  readonly #around: Surroundings;
  #token: Promise<string> | null = null;

  constructor(config: PhoneConfig, account: string, device: string, fetch: Fetch, random: () => number) {
    this.#api = config.api;
    this.#account = account;
    this.#device = device;
    this.#around = { fetch, random, token: (anew) => this.token(anew) };
  }

  /** The token in use, or a new one. Those who ask at the same time get the same. */
  async token(anew: boolean): Promise<string> {
    if (this.#token !== null && !anew) return this.#token;
    const body = { account: this.#account, device: this.#device };
    const asked: Asked = { method: "POST", url: `${this.#api}/v1/dev/tokens`, body };
    const token = once<{ token: string }>(this.#around.fetch, asked, null).then((answer) => answer.token);
    this.#token = token;
    token.catch(() => {
      if (this.#token === token) this.#token = null;
    });
    return token;
  }

  /** `endorsed`: false while the account's first device has not let this one in. */
  register(registration: Registration): Promise<{ endorsed: boolean }> {
    return this.#ask({ method: "PUT", url: `/v1/devices/${encodeURIComponent(this.#device)}`, body: registration });
  }

  async endorse(device: string, endorsement: string): Promise<void> {
    const url = `/v1/devices/${encodeURIComponent(device)}/endorsement`;
    await this.#ask({ method: "POST", url, body: { endorsement } });
  }

  devices(account: string): Promise<DeviceList> {
    return this.#ask({ method: "GET", url: `/v1/accounts/${encodeURIComponent(account)}/devices` });
  }

  /** The same `key` makes it the same call, however often it is asked. */
  place(to: string, media: Media, sealed: SealedFor, missed: SealedFor, key: string): Promise<Place> {
    const body = { to: [to], kind: "one_to_one", media, sealed: inBase64(sealed), missed: inBase64(missed) };
    return this.#ask({ method: "POST", url: "/v1/calls", body, headers: { "idempotency-key": key } });
  }

  look(call_id: string): Promise<CallView> {
    return this.#ask({ method: "GET", url: path(call_id) });
  }

  async ringing(call_id: string): Promise<void> {
    await this.#post(call_id, "ringing", {});
  }

  accept(call_id: string, sealed: Uint8Array): Promise<Place> {
    return this.#post(call_id, "accept", { sealed: toBase64(sealed) });
  }

  async reject(call_id: string, reason: "declined" | "busy"): Promise<void> {
    await this.#post(call_id, "reject", { reason });
  }

  async signal(call_id: string, sealed: SealedFor, signal: AbortSignal): Promise<void> {
    await this.#post(call_id, "signal", { sealed: inBase64(sealed) }, { signal });
  }

  async end(call_id: string): Promise<void> {
    await this.#post(call_id, "end", {});
  }

  rejoin(call_id: string, signal: AbortSignal): Promise<Place> {
    return this.#post(call_id, "rejoin", {}, { signal });
  }

  ticket(call_id: string, signal: AbortSignal): Promise<Place> {
    return this.#post(call_id, "ticket", {}, { signal });
  }

  #post<T>(call_id: string, what: string, body: object, more: Pick<Asked, "signal"> = {}): Promise<T> {
    return this.#ask({ method: "POST", url: `${path(call_id)}/${what}`, body, ...more });
  }

  #ask<T>(asked: Asked): Promise<T> {
    return ask(this.#around, { ...asked, url: this.#api + asked.url });
  }
}

function path(call_id: string): string {
  return `/v1/calls/${encodeURIComponent(call_id)}`;
}

function inBase64(sealed: SealedFor): Record<string, string> {
  return Object.fromEntries([...sealed].map(([device, bytes]) => [device, toBase64(bytes)]));
}

/** What aborted work is told, so that it ends like any refused request. */
export function aborted(): Refused {
  return new Refused({ ...NO_ANSWER, code: "aborted", title: "Given up" });
}
