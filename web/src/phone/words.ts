// What the phone says to people. Pure.

import type { Cause, MediaProblem } from "../phone";
import type { Failure } from "./causes.ts";
import type { Known } from "./sealing/trust.ts";
import type { Ended, HistoryEntry } from "./state.ts";

export interface Words {
  title: string;
  text: string;
}

export function endedWords({ cause, role, peer, duration_ms, detail }: Ended): Words {
  const who = peer ?? "The other side";
  const words: Record<Cause, Words> = {
    declined: { title: "Declined", text: `${who} does not want to talk now.` },
    busy: { title: "Busy", text: `${who} is in another call.` },
    "no-answer": { title: "No answer", text: `${who} did not pick up.` },
    "not-reached": { title: "Not reached", text: `No phone of ${who} rang. The next one that is online shows this call as missed.` },
    cancelled: { title: "Call cancelled", text: `${who} gave up before you answered.` },
    missed: { title: "Missed call", text: `${who} called, and nobody answered.` },
    "answered-elsewhere": { title: "Answered elsewhere", text: "You took this call on another device." },
    "declined-elsewhere": { title: "Declined elsewhere", text: "You declined this call on another device." },
    "connection-lost": { title: "Connection lost", text: `The connection to ${who} broke and did not come back.` },
    "no-devices": { title: `${who} has no phone yet`, text: `Nothing can ring: ${who} has never signed in.` },
    "hung-up": { title: "Call ended", text: duration_ms === null ? `With ${who}.` : `${span(duration_ms)} with ${who}.` },
    "call-exists": { title: "Already in a call", text: `You are in a call with ${who} on another device.` },
    "self-call": { title: "That is you", text: "You cannot call yourself. Enter another name." },
    "server-away": {
      title: "Server away",
      text: role === "caller" ? `The server could not be reached, so ${who} was not called.` : "The server could not be reached.",
    },
    refused: { title: "Call refused", text: `${detail ?? "Too many calls at once"}. Wait a little before the next one.` },
    removed: { title: "Device removed", text: "This phone was removed from your account. Sign in again to use it." },
    stopped: { title: "Call stopped", text: "The operator ended this call." },
    elsewhere: { title: "This phone is open in another tab", text: "Calls ring there. Take over to use it here." },
    unsecured: {
      title: "Not secured",
      text: `The other end showed another certificate than the one that ${who} named. Nothing was heard, and nothing was said.`,
    },
    failed: { title: "Call failed", text: `${detail ?? "Something went wrong"}.` },
    "bad-device-list": {
      title: "Not vouched for",
      text: `The server's list of ${who}'s devices does not hold: ${who} has not signed all of it. Nothing was said to them.`,
    },
    "identity-changed": { title: "Another identity", text: `${who} has another identity now, and you have not confirmed it.` },
    "unknown-prekey": {
      title: "Cannot be opened",
      text: `${who} called with a key that this device no longer has. Call back, and it is renewed.`,
    },
    forged: { title: "Not genuine", text: `What came in ${who}'s name is not from ${who}, or was changed on the way.` },
    replayed: { title: "Heard before", text: `What came in ${who}'s name was sent before, with another call.` },
    malformed: { title: "Not understood", text: `What came from ${who} cannot be read. It may be of another version.` },
    "no-session": {
      title: "No longer readable",
      text: `This device has lost the keys of the call with ${who}. Call again to make new ones.`,
    },
  };
  return words[cause];
}

/** What a caller reads. `nowhere`: it has had the time to ring, and does not. */
export function outgoingWords(peer: string, rings: boolean, nowhere: boolean): string {
  if (rings) return "Ringing…";
  return nowhere ? `Calling… No phone of ${peer} rings yet. One that comes online does.` : "Calling…";
}

export function mediaWords(problem: MediaProblem, peer: string): Words {
  return problem === "camera"
    ? {
        title: "No camera",
        text: `The camera could not be opened: it is missing, in use, or not allowed. ${peer} can still hear you.`,
      }
    : {
        title: "No microphone",
        text: `The microphone could not be opened: it is missing, in use, or not allowed. You can still listen to ${peer}.`,
      };
}

export function changedWords(peer: string, incoming: boolean): Words {
  const then = incoming ? "It rings here only when you have confirmed it." : "You call only when you have confirmed it.";
  return {
    title: `${peer} has another identity`,
    text: `A new phone, a new browser, or somebody else in between. Ask ${peer} in another way whether this number is theirs. ${then}`,
  };
}

/** `let_in`: by a first device that this one has not seen before. */
export function pendingWords(account: string, let_in: boolean): { text: string; status: string } {
  if (!let_in) {
    const text = `This device is not let in to ${account} yet. Confirm it where you signed in first; the same code stands there.`;
    return { text, status: "It goes on by itself." };
  }
  const text = `Another device than before says that it is the first one of ${account}, and has let this one in.`;
  return { text, status: "Did you do that yourself, there, with this code? If not, somebody else may be in between." };
}

/** What is new or particular about a peer's devices, before and during a call; empty when there is nothing. */
export function noticeWords(peer: string, { fresh, hosted }: Pick<Known, "fresh" | "hosted">): string[] {
  const words = fresh.map((device) => `${peer} has a new device: ${device}.`);
  if (hosted.length > 0) words.push(`An operator holds keys of ${peer}, and can listen.`);
  return words;
}

export function failureWords(failure: Failure): string {
  if (failure.status === 0) return "The server does not answer. Is tandem dev running?";
  if (failure.status === 429) return "Too many requests. Wait a little, then try again.";
  return `${failure.title}.`;
}

export const HISTORY_WORDS: Record<HistoryEntry["kind"], string> = {
  outgoing: "Outgoing",
  answered: "Answered",
  missed: "Missed",
  declined: "Declined",
};

/** 0:07, 12:05, 1:02:05. */
export function span(ms: number): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n: number): string => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600);
  const minutes = Math.floor(s / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}
