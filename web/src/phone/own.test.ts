import { expect, it } from "vitest";
import type { Api } from "./api.ts";
import { toBase64 } from "./base64.ts";
import { Own } from "./own.ts";
import { Keyring } from "./sealing/keyring.ts";
import { checkList, listHash } from "./sealing/list.ts";
import { MemoryStore } from "./sealing/store.ts";
import { TrustBook } from "./sealing/trust.ts";
import type { Device, DeviceList } from "./wire.ts";

function listed({ name, registration }: Keyring, endorsement?: string): Device {
  const { identity, signed_prekey } = registration;
  const vouched = endorsement === undefined ? {} : { endorsement };
  return { device: name.device, identity, signed_prekey, capabilities: [], custody: "device", ...vouched };
}

/** Two devices of one account: the second waits. */
async function account() {
  const make = (device: string): Promise<Keyring> => Keyring.make(new MemoryStore(), { account: "bob", device }, 1_000);
  const [first, second] = [await make("dev_1"), await make("dev_2")];
  const root = toBase64(first.sign.public);
  const list = { devices: [listed(first, first.registration.endorsement)], pending: [listed(second)] };
  const endorsed: [string, string][] = [];
  const answer = async (): Promise<DeviceList> => ({ account: "bob", root, list_hash: await listHash(root, list.devices), ...list });
  const api = {
    devices: answer,
    endorse: async (device: string, endorsement: string) => void endorsed.push([device, endorsement]),
  } as unknown as Api;
  const own = async (ring: Keyring): Promise<Own> => {
    return new Own(api, ring, await TrustBook.load(new MemoryStore(), "bob", () => undefined));
  };
  return { first, second, list, endorsed, answer, own };
}

it("the first device sees the one that waits with the code that it shows, and lets in these very keys", async () => {
  const { first, second, list, endorsed, answer, own } = await account();
  const [one, two] = [await own(first), await own(second)];
  const seen = await one.look();
  expect(seen).toEqual({ registered: true, join_code: null, first: true, waiting: [{ device: "dev_2", code: await two.code(), hosted: false }] });
  expect(await two.look()).toEqual({ registered: true, join_code: await two.code(), first: false, waiting: [] });
  for (const waiting of seen.waiting) await one.endorse(waiting);
  const [, endorsement] = endorsed[0] ?? ["", ""];
  list.devices.push(listed(second, endorsement));
  list.pending = [];
  await expect(checkList(await answer(), "bob")).resolves.toMatchObject({ account: "bob" });
  expect(await two.look()).toMatchObject({ join_code: null, first: false });
  expect(second.registration.endorsement).toBe(endorsement);
  list.devices.pop();
  expect(await two.look()).toMatchObject({ registered: false });
});

it("keys that were changed after the code was shown are not let in, and what is no device is not shown", async () => {
  const { first, list, endorsed, own } = await account();
  const one = await own(first);
  const { waiting } = await one.look();
  const other = await Keyring.make(new MemoryStore(), { account: "bob", device: "dev_2" }, 1_000);
  list.pending = [listed(other), { ...listed(other), custody: "nobody" }, { ...listed(other), identity: { sign: "é", agree: "" } }];
  expect((await one.look()).waiting).toHaveLength(1);
  for (const asked of waiting) await one.endorse(asked);
  expect(endorsed).toEqual([]);
});
