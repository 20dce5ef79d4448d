// The other devices of this account: whether this one is let in yet, and which wait to be let in by it. The account's first
// device lets in the others (docs/sealing.md, "Who vouches for a device"); a person decides whom.

import type { Api } from "./api.ts";
import { fromBase64, toBase64 } from "./base64.ts";
import { equal } from "./sealing/bytes.ts";
import type { Keyring } from "./sealing/keyring.ts";
import { SealError } from "./sealing/errors.ts";
import { type CheckedList, checkList } from "./sealing/list.ts";
import { joinCode } from "./sealing/safety.ts";
import { type Custody, deviceStatement, sign } from "./sealing/statements.ts";
import type { TrustBook } from "./sealing/trust.ts";
import type { Waiting } from "./state.ts";
import type { Device } from "./wire.ts";

export interface OwnDevices {
  /** The account has a device of this name, whether it is let in or waits. */
  registered: boolean;
  /** What this device shows while it waits to be let in; null: it is in. */
  join_code: string | null;
  /** It was let in by a first device that is not the one it knew: whether that is right, its person says. */
  let_in: boolean;
  /** This device is the account's first one: others wait for it. */
  first: boolean;
  waiting: Waiting[];
}

type Asks = Waiting & { statement: Uint8Array<ArrayBuffer> };

export class Own {
  readonly #api: Api;
  readonly #ring: Keyring;
  readonly #trust: TrustBook;
  /** As they were shown: these very keys are what the person lets in. */
  #asking: Asks[] = [];

  constructor(api: Api, ring: Keyring, trust: TrustBook) {
    this.#api = api;
    this.#ring = ring;
    this.#trust = trust;
  }

  /** The code that this device shows while it waits. */
  code(): Promise<string> {
    return joinCode(this.#ring.name, this.#ring.sign.public, this.#ring.agree.public);
  }

  /** Throws like any request, and the faults of a list. */
  async look(): Promise<OwnDevices> {
    const { account, device } = this.#ring.name;
    const said = await this.#api.devices(account);
    const list = await checkList(said, account);
    const me = list.devices.find((one) => one.device === device);
    const registered = me !== undefined || (said.pending ?? []).some((one) => one.device === device);
    const own = this.#ring.sign.public;
    const first = list.root !== null && equal(list.root, own);
    const known = first ? await this.#trust.found(list) : await this.#knows(list);
    const listed = me !== undefined && equal(me.sign, own) && equal(me.agree, this.#ring.agree.public);
    if (listed && known) await this.#ring.endorsed(me.endorsement);
    const join_code = listed && known ? null : await this.code();
    const asking = first ? await Promise.all((said.pending ?? []).map((one) => this.#asks(one))) : [];
    this.#asking = asking.filter((one) => one !== null);
    const waiting = this.#asking.map(({ device: id, code, hosted }) => ({ device: id, code, hosted }));
    return { registered, join_code, let_in: listed && !known, first, waiting };
  }

  /** Is the account's first device the one that this device knows, or the first that it sees? */
  async #knows(list: CheckedList): Promise<boolean> {
    try {
      await this.#trust.admit(list);
      return true;
    } catch (error) {
      if (error instanceof SealError && error.fault === "identity_changed") return false;
      throw error;
    }
  }

  /** Lets in the device that was shown with this code. */
  async endorse({ device, code }: Waiting): Promise<void> {
    const asks = this.#asking.find((one) => one.device === device && one.code === code);
    if (asks === undefined) return;
    await this.#api.endorse(device, toBase64(await sign(this.#ring.sign.private, asks.statement)));
  }

  /** Null for what is no device: it is not shown. */
  async #asks({ device, identity, custody }: Device): Promise<Asks | null> {
    if (custody !== "device" && custody !== "hosted") return null;
    try {
      const keys = [fromBase64(identity.sign), fromBase64(identity.agree)] as const;
      if (keys.some(({ length }) => length !== 32)) return null;
      const name = { account: this.#ring.name.account, device };
      const statement = deviceStatement(name, ...keys, custody satisfies Custody);
      return { device, code: await joinCode(name, ...keys), hosted: custody === "hosted", statement };
    } catch {
      return null;
    }
  }
}
