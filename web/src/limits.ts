// Every bound of the page, with its reason and its arithmetic. What goes over a bound is
// dropped and counted where the bound is used.

/** How often the probe looks, as issue 2 asks. */
export const SAMPLE_INTERVAL_MS = 20;

/** Samples kept: 10 minutes at one per 20 ms. About 300 B each, so 9 MB at most. */
export const SAMPLES_MAX = (10 * 60 * 1000) / SAMPLE_INTERVAL_MS;

/** Arrival times kept per kind: 10 minutes of 20 ms audio packets; video has fewer. */
export const ARRIVALS_MAX = (10 * 60 * 1000) / 20;

/** Events kept for the log and the harness: a call that works makes about 15. */
export const EVENTS_MAX = 1_000;

/** Lines shown in the event log: more than anyone scrolls through. */
export const EVENT_LINES_MAX = 200;

/** Messages waiting to be sent: one offer or answer and its candidates (24 allocations, doubled). */
export const OUTBOX_MAX = 64;

/** Candidates held until the remote description is there: as many as the other outbox may send. */
export const CANDIDATES_HELD_MAX = 64;

/** Former peers remembered so that their late messages are ignored: 16 reloads of the other tab. */
export const FORMER_PEERS_MAX = 16;

/** One long poll. The server is asked to answer after this time even when there is nothing. */
export const POLL_WAIT_MS = 20_000;

/** A long poll without any answer for this long is given up: the wait and 10 s for the network. */
export const POLL_TIMEOUT_MS = POLL_WAIT_MS + 10_000;

/** A short request without an answer for this long is given up and tried again. */
export const REQUEST_TIMEOUT_MS = 10_000;

/** First and longest pause between tries after a network error; it doubles in between. */
export const BACKOFF_FIRST_MS = 250;
export const BACKOFF_LONGEST_MS = 5_000;

/** How often the figures and the process table are renewed. */
export const FIGURES_INTERVAL_MS = 1_000;

/** The same after a kill, until the relay is ready again. */
export const FIGURES_INTERVAL_HASTY_MS = 200;

/** How long the page watches for the relay after a kill: longer than a browser keeps a silent call (about 18 s). */
export const KILL_PATIENCE_MS = 30_000;
