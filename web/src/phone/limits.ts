// Every bound of the phone, with its reason and its arithmetic. The diagnostic page's are in ../limits.ts.

/** Lines kept for the harness: a call that works makes about 40. */
export const EVENTS_MAX = 1_000;

/** Calls shown in the history of a tab: two screens full on a phone. */
export const HISTORY_MAX = 30;

/** A request without an answer for this long is given up and tried again: the server answers within 5 s or says 503. */
export const REQUEST_TIMEOUT_MS = 10_000;

/** Tries of one request on network errors and 503, with pauses of 0.25 s and more: about 4 s in all. */
export const REQUEST_TRIES = 5;

/** First and longest pause between two tries of a request, or two connections of the socket. */
export const PAUSE_FIRST_MS = 250;
export const PAUSE_LONGEST_MS = 10_000;

/** A pause that the server asks for during a call is heeded up to this; for longer ones the user is told instead. */
export const RETRY_AFTER_LONGEST_MS = 5_000;

/** Tries of a call whose callee's devices changed in between: a fourth change within one dialling is no accident. */
export const DEVICES_CHANGED_TRIES = 3;

/** Candidates are collected for this long into one signal: each signal is a durable write and takes one of 32 places. */
export const CANDIDATES_FLUSH_MS = 100;

/** Candidates held until the remote description is there: eight batches of a host with four addresses. */
export const CANDIDATES_HELD_MAX = 64;

/** Signals held until it is known what call they belong to: as many as the server keeps for a device. */
export const SIGNALS_HELD_MAX = 32;

/** Ids of pushes remembered, so that what is delivered again is not done again: eight times what the server keeps. */
export const PUSH_IDS_MAX = 256;

/** Calls remembered that this tab has left, so that a late push does not bring them back. */
export const LEFT_CALLS_MAX = 32;

/** Pushes held until the call that is being placed has its id: offer, ringing of 8 devices, the answer, doubled. */
export const EARLY_PUSHES_MAX = 20;

/** An ended call's screen goes away by itself after this, unless it tells of an error. */
export const ENDED_SHOWN_MS = 6_000;

/** A sign-in that failed because the server was away is tried again after this: a restarted server is ready within it. */
export const SIGN_IN_AGAIN_MS = 2_000;

/** A call rings for so long: the server's limit. */
export const RING_LONGEST_MS = 45_000;

/** A caller whose call rings nowhere for so long is told so: a phone that is online rings within a second, as a rule. */
export const RINGS_SOON_MS = 4_000;

/** A ring ends on this device this long after the server should have ended it: only a lost socket needs it. */
export const RING_GRACE_MS = 3_000;

/** How long the offer of a call that won over ours may take to come. */
export const GLARE_WAIT_MS = 10_000;

/** When ICE has not come back this long after a restart, it is restarted again. */
export const RESTART_PATIENCE_MS = 6_000;

/** How often quality and timer are renewed. */
export const QUALITY_INTERVAL_MS = 1_000;

/** The longest frame that a push can be: a blob of 8 KiB is 10.7 KiB in base64, and some fields. */
export const PUSH_LENGTH_MAX = 16_384;

/** How often a reloaded tab asks for its device's lock: the document before it may still be closing. */
export const CLAIM_TRIES = 5;
export const CLAIM_PAUSE_MS = 100;

/** How often the own devices are asked for, on the home screen of the first one: a person who holds both waits that long. */
export const OWN_DEVICES_MS = 5_000;

/** How often it is seen whether they are due: the screen may be another one by then, and with it the pause. */
export const OWN_LOOK_TICK_MS = 500;

/** How often they are asked for on those of the others: whether it is still one of them. */
export const OTHERS_LOOK_MS = 60_000;

/**
 * How often a device that waits to be let in asks whether it is. The server answers 120 such questions of an account in a
 * minute, and 60 more at once: 12 of the first device, and 20 of each of five that wait.
 */
export const PENDING_MS = 3_000;

/** How often it is seen whether a prekey is due: it lives for days. */
export const PREKEY_LOOK_MS = 3_600_000;

/** An offer that could not be examined because the server was away is examined again after this, while it rings. */
export const EXAMINE_AGAIN_MS = 1_000;

/** How often the fault panel looks at the processes while it is open: an outage is read off in figures, not by eye. */
export const FAULTS_LOOK_MS = 1_000;

/** Requests for a call that were given up and are remembered: a person asks for one after the other. */
export const GIVEN_UP_MAX = 16;

/** How long after that a call may still come of it that this tab is told of: a lost socket may take as long to be back. */
export const GHOST_COMES_WITHIN_MS = 300_000;

/** How far the clocks of two servers may be apart when one says how long ago it is that the other made a call. */
export const SERVERS_APART_MS = 2_000;
