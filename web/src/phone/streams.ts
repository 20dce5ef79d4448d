// What of a call is shown besides the state: the pictures of both sides, and what each sends.

import { openCamera } from "../camera.ts";
import type { Sends } from "./state.ts";

export interface Streams {
  local: MediaStream | null;
  remote: MediaStream | null;
  /** What this side sends now. */
  sends: Sends;
  peer_sends: Sends;
}

export const NOTHING: Streams = {
  local: null,
  remote: null,
  sends: { microphone: false, camera: false },
  peer_sends: { microphone: true, camera: true },
};

/** A stream with what is wanted; an empty one when nothing is. */
export async function openMedia({ microphone, camera }: Sends): Promise<MediaStream> {
  if (!microphone && !camera) return new MediaStream();
  return openCamera({ audio: microphone, video: camera });
}
