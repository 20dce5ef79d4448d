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
  const list = { root: toBase64(first.sign.public), devices: [listed(first, first.registration.endorsement)], pending: [listed(second)] };
  const endorsed: [string, string][] = [];
  const answer = async (): Promise<DeviceList> => ({ account: "bob", list_hash: await listHash(list.root, list.devices), ...list });
  const api = {
    devices: answer,
    endorse: async (device: string, endorsement: string) => void endorsed.push([device, endorsement]),
  } as unknown as Api;
  const book = (): Promise<TrustBook> => TrustBook.load(new MemoryStore(), "bob", () => undefined);
  const own = async (ring: Keyring, trust?: TrustBook): Promise<Own> => new Own(api, ring, trust ?? (await book()));
  return { first, second, list, endorsed, answer, own, book };
}

it("the first device sees the one that waits with the code that it shows, and lets in these very keys", async () => {
  const { first, second, list, endorsed, answer, own } = await account();
  const [one, two] = [await own(first), await own(second)];
  const seen = await one.look();
  expect(seen).toEqual({ registered: true, join_code: null, let_in: false, first: true, waiting: [{ device: "dev_2", code: await two.code(), hosted: false }] });
  expect(await two.look()).toEqual({ registered: true, join_code: await two.code(), let_in: false, first: false, waiting: [] });
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

it("with another first device the old one waits and its person is asked, and nobody asks the new one about itself", async () => {
  const { first, second, list, endorsed, own, book } = await account();
  const trust = await book();
  const [one, two] = [await own(first, trust), await own(second)];
  await one.look();
  await two.look();
  // The first one was removed, the second one is the account's first now, and the other has come back.
  await second.endorseItself();
  Object.assign(list, {
    root: toBase64(second.sign.public),
    devices: [listed(second, second.registration.endorsement)],
    pending: [listed(first)],
  });
  const seen = await two.look();
  expect(seen).toMatchObject({ registered: true, join_code: null, first: true });
  expect(seen.waiting).toHaveLength(1);
  expect(await one.look()).toMatchObject({ registered: true, join_code: await one.code(), let_in: false, first: false });
  for (const waiting of seen.waiting) await two.endorse(waiting);
  list.devices.push(listed(first, endorsed[0]?.[1]));
  list.pending = [];
  const own_endorsement = first.registration.endorsement;
  expect(await one.look()).toMatchObject({ join_code: await one.code(), let_in: true });
  // A server that puts another root there, and signs with it, has not been believed by anybody.
  expect(first.registration.endorsement).toBe(own_endorsement);
  await trust.confirm("bob");
  expect(await one.look()).toMatchObject({ join_code: null, let_in: false });
});
