// What stands in requests, answers and pushes, as docs/api.md says. Decides what counts as a push; what it means is pushes.ts.

export type Media = "audio" | "video";

export interface Party {
  account: string;
  device: string;
}

export interface Identity {
  /** Ed25519, base64 of 32 bytes. */
  sign: string;
  /** X25519, base64 of 32 bytes. */
  agree: string;
}

export interface SignedPrekey {
  id: number;
  key: string;
  signature: string;
}

export interface Device {
  device: string;
  identity: Identity;
  signed_prekey: SignedPrekey;
  capabilities: unknown;
  custody: string;
  /** By the account's root, base64 of 64 bytes. */
  endorsement?: string | null;
}

/** As the server says it; before a key in it is used, sealing/list.ts checks all of it. */
export interface DeviceList {
  account: string;
  /** The `sign` of the account's first device, base64; absent when it has none. */
  root?: string | null;
  list_hash: string;
  devices: Device[];
  /** Those that wait to be endorsed: only of the asker's own account. */
  pending?: Device[];
}

export type ServerPhase = "ringing" | "active" | "ended";

/** A place in the call. */
export interface Place {
  call_id: string;
  leg: number;
  phase: ServerPhase;
  revision: number;
  ring_expires_at: string;
  ice_servers: RTCIceServer[];
}

/** A call as its participant sees it. */
export interface CallView {
  call_id: string;
  media: Media;
  phase: ServerPhase;
  created_at: string;
  ring_expires_at: string;
  revision: number;
  my_leg?: number;
  from: Party;
  to: string[];
  legs: { leg: number; account: string; device: string; state: "joined" | "away" | "left" }[];
  ended?: { at: string; reason: string };
}

/** A push: the fields that every one has, and those that some have. */
export interface Push {
  type: string;
  call_id: string;
  revision: number;
  age_ms: number;
  id?: string;
  sealed?: string;
  from?: Party;
  media?: Media;
  ring_remaining_ms?: number;
  leg?: number;
  my_leg?: number;
  account?: string;
  device?: string;
  rejoined?: boolean;
  reason?: string;
}

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function party(value: unknown): Party | undefined {
  if (!isFields(value)) return undefined;
  const { account, device } = value;
  return typeof account === "string" && typeof device === "string" ? { account, device } : undefined;
}

/** Reads a frame; null for what is no JSON object with a type. Fields of a wrong kind count as absent. */
export function parseFrame(text: string): Push | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isFields(value)) return null;
  const string = (name: string): string | undefined => {
    const field = value[name];
    return typeof field === "string" ? field : undefined;
  };
  const number = (name: string): number | undefined => {
    const field = value[name];
    return typeof field === "number" && Number.isFinite(field) ? field : undefined;
  };
  const type = string("type");
  if (type === undefined) return null;
  const media = value["media"];
  return {
    type,
    call_id: string("call_id") ?? "",
    revision: number("revision") ?? 0,
    age_ms: number("age_ms") ?? 0,
    ...defined("id", string("id")),
    ...defined("sealed", string("sealed")),
    ...defined("from", party(value["from"])),
    ...defined<"media", Media>("media", media === "audio" || media === "video" ? media : undefined),
    ...defined("ring_remaining_ms", number("ring_remaining_ms")),
    ...defined("leg", number("leg")),
    ...defined("my_leg", number("my_leg")),
    ...defined("account", string("account")),
    ...defined("device", string("device")),
    ...defined("rejoined", typeof value["rejoined"] === "boolean" ? value["rejoined"] : undefined),
    ...defined("reason", string("reason")),
  };
}

/** An absent field stays absent, instead of being there as undefined. */
function defined<K extends string, V>(name: K, value: V | undefined): { [key in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [key in K]: V });
}
