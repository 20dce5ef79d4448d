/// <reference types="vite/client" />
import { describe, expect, it } from "vitest";
import { fromBase64, toBase64 } from "../base64.ts";
import { agreePairOf } from "./agreement.ts";
import { openNote, openOffer, openSession } from "./blobs.ts";
import { checkList } from "./list.ts";
import { safetyNumber } from "./safety.ts";
import { deviceStatement, prekeyStatement, verify } from "./statements.ts";
import { type Vectors, makeVectors, sideOf } from "./vectors.ts";

// As the other side of it opens them, whoever sealed them.
const files = import.meta.glob<Vectors>("../../../../seal/vectors/*.json", { eager: true, import: "default" });

describe.each([...Object.entries(files), ["made just now", null] as const])("the vectors of %s", (_file, read) => {
  const vectors = read === null ? makeVectors() : Promise.resolve(read);

  it("open, offer and session and note, to what was said", { timeout: 20_000 }, async () => {
    const { caller, callee, call, offer, session, note } = await vectors;
    const [a, b] = [await sideOf(caller), await sideOf(callee)];
    const route = { caller: a.name, callee: b.name };
    const prekey = await agreePairOf(fromBase64(callee.prekey.key));
    const { clear, secrets } = await openOffer(route, a.agree.public, prekey, fromBase64(offer.blob));
    expect(toBase64(clear)).toBe(offer.clear);
    for (const { from, blob, clear: said } of session) {
      const way = from === "caller" ? secrets.caller_to_callee : secrets.callee_to_caller;
      expect(toBase64(await openSession(way, call, fromBase64(blob)))).toBe(said);
    }
    expect(toBase64(await openNote(route, a.agree.public, b.agree, fromBase64(note.blob)))).toBe(note.clear);
  });

  it("hold, signatures and endorsements and list and safety number", { timeout: 20_000 }, async () => {
    const { caller, callee, prekey_signature, endorsements, safety, list_hash } = await vectors;
    const [a, b] = [await sideOf(caller), await sideOf(callee)];
    const prekey = await agreePairOf(fromBase64(callee.prekey.key));
    const said = prekeyStatement(b.name, callee.prekey.id, prekey.public);
    expect(await verify(b.sign.public, fromBase64(prekey_signature), said)).toBe(true);
    for (const [side, endorsement] of [[a, endorsements.caller], [b, endorsements.callee]] as const) {
      const statement = deviceStatement(side.name, side.sign.public, side.agree.public, "device");
      expect(await verify(side.sign.public, fromBase64(endorsement), statement)).toBe(true);
    }
    const { root, devices, hash } = list_hash;
    const account = root === toBase64(a.sign.public) ? caller.account : callee.account;
    await expect(checkList({ account, root, devices, list_hash: hash }, account)).resolves.toMatchObject({ account });
    const rooted = ({ name, sign }: typeof a) => ({ account: name.account, root: sign.public });
    expect(await safetyNumber(rooted(b), rooted(a))).toBe(safety);
  });
});
