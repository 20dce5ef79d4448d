// Every bound of sealing, from docs/sealing.md, with its arithmetic. The phone's are in ../limits.ts.

const DAY_MS = 24 * 3_600_000;

/** The longest blob: what the server takes for one device. */
export const BLOB_MAX = 8 * 1024;

/** The longest clear text, inflated: eight times the longest blob. */
export const CLEAR_MAX = 64 * 1024;

/** A clear text is padded to a multiple of this. */
export const PAD_TO = 128;

/** A prekey this old is followed by a new one. */
export const PREKEY_RENEWED_MS = 7 * DAY_MS;

/** A prekey this old is deleted, and what was sealed to it with it. */
export const PREKEY_KEPT_MS = 14 * DAY_MS;

/** A session is of no use after this: a call ends after 24 h, and a ring comes before it. */
export const SESSION_KEPT_MS = DAY_MS + 3_600_000;

/** The highest sequence number: four bytes. */
export const SEQUENCE_MAX = 0xffff_ffff;

/** How often the safety number is hashed (Signal's numeric fingerprint). */
export const SAFETY_ROUNDS = 5_200;
