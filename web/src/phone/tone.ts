// Rings: two soft notes and a pause, made here. A browser that wants a gesture first gets it with the next one; a browser
// without sound rings in silence. Never throws.

const NOTES_HZ = [659.25, 523.25];
const NOTE_S = 0.35;
const PERIOD_MS = 2_400;

export class RingTone {
  #context: AudioContext | null = null;
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(page: EventTarget) {
    const wake = (): void => void this.#context?.resume().catch(() => undefined);
    page.addEventListener("pointerdown", wake);
    page.addEventListener("keydown", wake);
  }

  set(ringing: boolean): void {
    if (ringing === (this.#timer !== null)) return;
    if (ringing) {
      this.#context ??= open();
      this.#play();
      this.#timer = setInterval(() => this.#play(), PERIOD_MS);
    } else {
      if (this.#timer !== null) clearInterval(this.#timer);
      this.#timer = null;
      void this.#context?.close().catch(() => undefined);
      this.#context = null;
    }
  }

  #play(): void {
    const context = this.#context;
    if (context === null || context.state !== "running") return;
    NOTES_HZ.forEach((frequency, i) => {
      const at = context.currentTime + i * NOTE_S;
      const note = new OscillatorNode(context, { frequency, type: "sine" });
      const volume = new GainNode(context, { gain: 0 });
      volume.gain.setTargetAtTime(0.12, at, 0.02);
      volume.gain.setTargetAtTime(0, at + NOTE_S * 0.6, 0.08);
      note.connect(volume).connect(context.destination);
      note.start(at);
      note.stop(at + NOTE_S * 2);
    });
  }
}

function open(): AudioContext | null {
  try {
    return new AudioContext();
  } catch {
    return null;
  }
}
