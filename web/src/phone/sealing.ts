// Seals what one device says to another, so that the server cannot read it. Decides how; what is said is payload.ts.

import type { Device, Party } from "./wire.ts";

export interface Sealing {
  seal(to: Device, payload: Uint8Array): Promise<Uint8Array>;
  /** Throws when it was not sealed by `from` for this device. */
  open(from: Party, sealed: Uint8Array): Promise<Uint8Array>;
}

/** Seals nothing: the server could read it. In place until HPKE is. */
export class ClearSealing implements Sealing {
  async seal(_to: Device, payload: Uint8Array): Promise<Uint8Array> {
    return payload;
  }

  async open(_from: Party, sealed: Uint8Array): Promise<Uint8Array> {
    return sealed;
  }
}
