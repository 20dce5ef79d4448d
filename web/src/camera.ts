// Asks for camera and microphone, and says in plain words why there are none.

export class NoCamera extends Error {}

export async function openCamera(wanted: MediaStreamConstraints = { audio: true, video: true }): Promise<MediaStream> {
  // Outside a secure context (plain http to anything but this machine) browsers hide the devices altogether.
  if (!("mediaDevices" in navigator)) {
    throw new NoCamera("This browser gives camera and microphone only to pages from this machine or over HTTPS.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    throw new NoCamera(reason(error instanceof DOMException ? error.name : ""));
  }
}

export function reason(name: string): string {
  switch (name) {
    case "NotAllowedError":
      return "Camera and microphone were not allowed. That is fine; to try a call, allow them for this page and press Connect again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera or no microphone was found. Plug one in and press Connect again.";
    case "NotReadableError":
    case "AbortError":
      return "The camera or the microphone is in use by another program. Close it there and press Connect again.";
    default:
      return "Camera and microphone could not be opened. Press Connect to try again.";
  }
}
