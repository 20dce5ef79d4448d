// The closed set of what is refused (docs/sealing.md, "What is refused"). Decides the names; when each applies is said
// where it is thrown, and what the phone makes of it is the machine's.

export type SealFault =
  /** No blob, cut short, another version, a bad clear text, over 8 KiB. */
  | "malformed"
  /** Sealed to a prekey that this device does not have (any more). */
  | "unknown_prekey"
  /** It does not open: not from that device, not for this one, another call's, or changed on the way. */
  | "forged"
  /** A sequence number again or out of order; an offer's nonce that came with another call before. */
  | "replayed"
  /** A session blob of a device with which this call has no session. */
  | "no_session"
  /** The list's hash, an endorsement or a prekey's signature does not hold; or the device is not in it. */
  | "bad_device_list"
  /** The account's root is not the pinned one, and nobody has confirmed it. */
  | "identity_changed";

const FAULTS: ReadonlySet<string> = new Set<SealFault>([
  "malformed",
  "unknown_prekey",
  "forged",
  "replayed",
  "no_session",
  "bad_device_list",
  "identity_changed",
]);

export class SealError extends Error {
  readonly fault: SealFault;
  constructor(fault: SealFault) {
    super(fault);
    this.name = "SealError";
    this.fault = fault;
  }
}

export function isSealFault(code: string): code is SealFault {
  return FAULTS.has(code);
}
