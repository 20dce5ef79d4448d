//! Calls as compare-and-sets on their records.
//!
//! Decides which records one change writes together: the call, the pair of its accounts, what is sealed for whom, and the
//! missed-call notes. Leaves what may change to `core::topology`, and the race between two nodes to the store. No call is
//! kept here: two nodes at once are as good as one.

mod removal;

use std::collections::BTreeSet;
use std::sync::Arc;

use tandem_auth::rate::Limiter;
use tandem_core::topology::{Blob, BlobKind, Call, CallCommand, Phase, Placed, Refusal};
use tandem_state_client::key::{MISSED, NOTE};
use tandem_state_client::{Change, Command, Key, Op, Revision, Store, StoreError};
use tandem_telemetry::metric::signaling::CONTENDED;
use tandem_wire::id::{CallId, PopId};
use tandem_wire::party::{DeviceKey, PairKey, Party};

use crate::directory::Directory;
use crate::limits;
use crate::live::Live;
use crate::refused::Refused;

/// The number of an offer; the first of what follows.
const OFFER: u16 = 1;
const FIRST_FREE: u16 = 2;

/// What every part of a node works on.
pub(crate) struct Node {
    pub(crate) pop: PopId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) live: Live,
    /// Who asks for more than is known here, by account ([`limits::LATEST_PER_ACCOUNT`]).
    pub(crate) latest: Limiter,
}

/// A call as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) call: Arc<Call>,
    pub(crate) revision: Revision,
}

/// Something sealed for a device.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) to: Party,
    /// In base64.
    pub(crate) sealed: String,
}

/// All records of a call.
struct Loaded {
    standing: Standing,
    blobs: Vec<(DeviceKey, u16, Revision, Blob)>,
    attachments: Vec<(Key, Revision)>,
}

/// What is written together.
#[derive(Default)]
struct Writes(Vec<Op>);

impl Writes {
    fn put(&mut self, key: Key, based_on: Revision, value: Result<Vec<u8>, impl Sized>) -> Result<(), Refused> {
        let value = value.map_err(|_| Refused::Record)?;
        self.0.push(Op { key, based_on, change: Change::Put(value) });
        Ok(())
    }

    fn delete(&mut self, key: Key, based_on: Revision) {
        self.0.push(Op { key, based_on, change: Change::Delete });
    }
}

/// The account that a call rings at, and the one that called.
fn pair_of(call: &Call) -> Option<PairKey> {
    let callee = &call.ring.as_ref()?.devices.first()?.party.account;
    Some(PairKey::new(&call.caller()?.account, callee))
}

/// The record of a pair: the call that they have.
#[derive(serde::Serialize, serde::Deserialize)]
struct Pair {
    v: u32,
    call: CallId,
}

/// How new what is loaded is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Newness {
    /// As our state server has it.
    Known,
    /// With all that any state server has stored.
    Latest,
}

impl Node {
    /// The call, if it concerns `party`.
    pub(crate) async fn look(&self, id: CallId, party: &Party) -> Result<Standing, Refused> {
        Ok(self.concerning(id, party).await?.standing)
    }

    /// The same, as far as it is known here: that costs no look at what others may have stored this moment.
    pub(crate) async fn known(&self, id: CallId, party: &Party) -> Result<Standing, Refused> {
        let loaded = self.load(id, Newness::Known).await?;
        let ours = loaded.filter(|loaded| loaded.standing.call.concerns(party));
        ours.map(|loaded| loaded.standing).ok_or(Refused::NotFound)
    }

    async fn concerning(&self, id: CallId, party: &Party) -> Result<Loaded, Refused> {
        // What is another PoP's is not there; and what is somebody else's is as if it were not (attack S16).
        if id.pop() != self.pop {
            return Err(Refused::NotFound);
        }
        let ours = |loaded: &Loaded| loaded.standing.call.concerns(party);
        if let Some(loaded) = self.load(id, Newness::Known).await?.filter(ours) {
            return Ok(loaded);
        }
        // Another node's state server may have told the device of it before ours has it. A call of others has its parties
        // from its beginning, and is looked for all the same: the time that an answer takes tells no more than it says.
        let latest = if self.may_ask(party) { self.load(id, Newness::Latest).await? } else { None };
        latest.filter(ours).ok_or(Refused::NotFound)
    }

    /// Whether `party` is believed once more that there is something newer than what is known here.
    fn may_ask(&self, party: &Party) -> bool {
        self.latest.admit(&party.account, tandem_net::clock::now().mono).is_ok()
    }

    async fn load(&self, id: CallId, newness: Newness) -> Result<Option<Loaded>, Refused> {
        let listing = match newness {
            Newness::Known => self.store.load(id).await?,
            Newness::Latest => self.store.load_latest(id).await?,
        };
        let (mut standing, mut blobs, mut attachments) = (None, Vec::new(), Vec::new());
        for entry in listing.entries {
            match entry.key {
                Key::Call(_) => {
                    let call = Arc::new(Call::from_json(&entry.value).map_err(|_| Refused::Record)?);
                    standing = Some(Standing { call, revision: entry.revision });
                }
                Key::Blob(_, device, seq) => {
                    let blob = Blob::from_json(&entry.value).map_err(|_| Refused::Record)?;
                    blobs.push((device, seq, entry.revision, blob));
                }
                Key::Attachment(..) => attachments.push((entry.key, entry.revision)),
                Key::Removal(..) | Key::Pair(..) | Key::Relay(..) | Key::Table(_) | Key::Account(..) => {}
            }
        }
        Ok(standing.map(|standing| Loaded { standing, blobs, attachments }))
    }

    /// Makes a call that rings. `offers` name the devices that it rings at; `notes` are what those find who miss it.
    pub(crate) async fn place(
        &self,
        placed: Placed,
        offers: Vec<Sealed>,
        notes: Vec<Sealed>,
    ) -> Result<Standing, Refused> {
        let (id, caller, request) = (placed.id, placed.caller.clone(), placed.request.clone());
        let now = tandem_net::clock::now();
        let media = placed.media;
        let call =
            Call::apply(None, CallCommand::Place(placed), now).map_err(|refusal| Refused::Topology(refusal, None))?;
        let call = Arc::new(call);
        let mut pair_revision = Revision::ZERO;
        for _ in 0..limits::DECISIONS {
            let mut writes = Writes::default();
            writes.put(Key::Call(id), Revision::ZERO, call.to_json())?;
            if let Some(pair) = pair_of(&call) {
                let value = serde_json::to_vec(&Pair { v: 1, call: id });
                writes.put(Key::Pair(self.pop, pair), pair_revision, value)?;
            }
            for (seq, kind, list) in [(OFFER, BlobKind::Offer, &offers), (NOTE, BlobKind::Note, &notes)] {
                for Sealed { to, sealed } in list {
                    let mut blob = Blob::new(kind, caller.clone(), to.clone(), now.wall, Some(sealed.clone()));
                    blob.media = Some(media);
                    writes.put(Key::Blob(id, to.key(), seq), Revision::ZERO, blob.to_json())?;
                }
            }
            match self.store.commit(Command { ops: writes.0 }).await {
                Ok(revision) => {
                    self.live.note(id, revision, &call);
                    return Ok(Standing { call, revision });
                }
                Err(StoreError::Stale { key: Key::Pair(_, pair) }) => {
                    pair_revision = self.vacant(pair, &caller).await?;
                }
                // The same request, on this node or another, now or before.
                Err(StoreError::Stale { .. }) => {
                    let known = self.concerning(id, &caller).await.map_err(|error| match error {
                        // It went while we looked: an id of theirs, or of nobody.
                        Refused::NotFound => Refused::KeyReused,
                        other => other,
                    })?;
                    let same = known.standing.call.ring.as_ref().is_some_and(|ring| ring.request == request);
                    return if same && request.is_some() { Ok(known.standing) } else { Err(Refused::KeyReused) };
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused::Contended)
    }

    /// The revision of a pair's record whose call is over. A pair that has a call is refused.
    async fn vacant(&self, pair: PairKey, caller: &Party) -> Result<Revision, Refused> {
        let Some(entry) = self.store.read(Key::Pair(self.pop, pair)).await? else { return Ok(Revision::ZERO) };
        let Pair { call: id, .. } = serde_json::from_slice(&entry.value).map_err(|_| Refused::Record)?;
        let Some(loaded) = self.load(id, Newness::Latest).await? else { return Ok(entry.revision) };
        let call = loaded.standing.call;
        let rings_here = call.ring.as_ref().is_some_and(|ring| ring.find(caller).is_some());
        match call.phase() {
            Phase::Ended => Ok(entry.revision),
            Phase::Ringing if rings_here => Err(Refused::Glare(id)),
            Phase::Ringing | Phase::Active => Err(Refused::CallExists(id)),
        }
    }

    /// A device's command on a call that concerns it. `sealed` goes to those devices with it, if it changes anything.
    pub(crate) async fn command(
        &self,
        id: CallId,
        by: &Party,
        command: CallCommand,
        kind: BlobKind,
        sealed: impl Fn(&Call) -> Result<Vec<Sealed>, Refused>,
    ) -> Result<Standing, Refused> {
        let mut loaded = self.concerning(id, by).await?;
        let mut newness = Newness::Known;
        for _ in 0..limits::DECISIONS {
            match self.decide(&loaded, Some(by), command.clone(), kind, &sealed).await {
                Ok(Some(standing)) => return Ok(standing),
                Ok(None) => {}
                // The device may know of something newer than what this was decided on.
                Err(Refused::Topology(..)) if newness == Newness::Known && self.may_ask(by) => {}
                Err(refused) => return Err(refused),
            }
            newness = Newness::Latest;
            let latest = self.load(id, newness).await?.filter(|loaded| loaded.standing.call.concerns(by));
            loaded = latest.ok_or(Refused::NotFound)?;
        }
        Err(Refused::Contended)
    }

    /// What happens to a call without a device's asking: a timer, a removal, an operator. A call that is gone is over.
    pub(crate) async fn happen(&self, id: CallId, command: CallCommand) -> Result<(), Refused> {
        let mut newness = Newness::Known;
        for _ in 0..limits::DECISIONS {
            let Some(loaded) = self.load(id, std::mem::replace(&mut newness, Newness::Latest)).await? else {
                return Ok(());
            };
            let nothing = |_: &Call| Ok(Vec::new());
            if self.decide(&loaded, None, command.clone(), BlobKind::Signal, &nothing).await?.is_some() {
                return Ok(());
            }
        }
        Err(Refused::Contended)
    }

    /// Decides once, over what was loaded; `None` if somebody else changed it meanwhile.
    async fn decide(
        &self,
        loaded: &Loaded,
        by: Option<&Party>,
        command: CallCommand,
        kind: BlobKind,
        sealed: &impl Fn(&Call) -> Result<Vec<Sealed>, Refused>,
    ) -> Result<Option<Standing>, Refused> {
        let now = tandem_net::clock::now();
        let Standing { call: old, revision } = &loaded.standing;
        let refused = |refusal: Refusal| Refused::Topology(refusal, old.ended.map(|ended| ended.reason));
        let new = Arc::new(Call::apply(Some(old), command, now).map_err(refused)?);
        let changed = new != *old;
        let mut writes = Writes::default();
        if changed {
            writes.put(Key::Call(new.id), *revision, new.to_json())?;
            if new.phase() == Phase::Ended {
                self.end(loaded, &new, &mut writes).await?;
            }
        }
        // The same accept again changes nothing, and is not to be sent twice; a signal is always new.
        if let Some(by) = by
            && (changed || kind == BlobKind::Signal)
        {
            for Sealed { to, sealed } in sealed(&new)? {
                let seq = loaded.free(to.key())?;
                let blob = Blob::new(kind, by.clone(), to.clone(), now.wall, Some(sealed));
                writes.put(Key::Blob(new.id, to.key(), seq), Revision::ZERO, blob.to_json())?;
            }
        }
        if writes.0.is_empty() {
            return Ok(Some(Standing { call: new, revision: *revision }));
        }
        match self.store.commit(Command { ops: writes.0 }).await {
            Ok(written) => Ok(Some(Standing { call: new, revision: if changed { written } else { *revision } })),
            Err(StoreError::Stale { .. }) => {
                CONTENDED.add(1);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the end of a call writes beside its record: the pair is free again, and each note is kept for a device that
    /// missed the call, or goes.
    async fn end(&self, loaded: &Loaded, call: &Call, writes: &mut Writes) -> Result<(), Refused> {
        if let Some(pair) = pair_of(call) {
            let key = Key::Pair(self.pop, pair);
            let entry = self.store.read(key).await?;
            let own = entry
                .filter(|entry| serde_json::from_slice::<Pair>(&entry.value).is_ok_and(|pair| pair.call == call.id));
            if let Some(entry) = own {
                writes.delete(key, entry.revision);
            }
        }
        let at = call.ended.map_or(call.created, |ended| ended.at);
        for party in call.missed() {
            let device = party.key();
            let note = loaded.blobs.iter().find(|(to, .., blob)| *to == device && blob.kind == BlobKind::Note);
            let mut blob = match (note, call.caller()) {
                (Some((.., blob)), _) => blob.clone(),
                // The caller left none: the device is told all the same.
                (None, Some(caller)) => Blob::new(BlobKind::Missed, caller.clone(), party.clone(), at, None),
                (None, None) => continue,
            };
            (blob.kind, blob.at) = (BlobKind::Missed, at);
            blob.media = call.ring.as_ref().map(|ring| ring.media);
            // A note of an older version stands where it becomes a missed call.
            let based_on =
                note.filter(|(_, seq, ..)| *seq == MISSED).map_or(Revision::ZERO, |(_, _, revision, _)| *revision);
            writes.put(Key::Blob(call.id, device, MISSED), based_on, blob.to_json())?;
        }
        for (device, seq, revision, blob) in &loaded.blobs {
            let told = *seq == MISSED && call.missed().any(|party| party.key() == *device);
            if blob.kind == BlobKind::Note && !told {
                writes.delete(Key::Blob(call.id, *device, *seq), *revision);
            }
        }
        Ok(())
    }

    /// Deletes what was sealed for a call that ended, and where its legs were attached; with `record` the record too.
    /// Missed-call notes stay.
    pub(crate) async fn clear(&self, id: CallId, record: bool) -> Result<(), Refused> {
        let Some(loaded) = self.load(id, Newness::Known).await? else { return Ok(()) };
        if loaded.standing.call.phase() != Phase::Ended {
            return Ok(());
        }
        let mut writes = Writes::default();
        for (device, seq, revision, blob) in &loaded.blobs {
            if blob.kind != BlobKind::Missed {
                writes.delete(Key::Blob(id, *device, *seq), *revision);
            }
        }
        for (key, revision) in &loaded.attachments {
            writes.delete(*key, *revision);
        }
        if record {
            writes.delete(Key::Call(id), loaded.standing.revision);
        }
        for ops in writes.0.chunks(tandem_state_client::limits::OPS_PER_COMMAND) {
            self.store.commit(Command { ops: ops.to_vec() }).await?;
        }
        Ok(())
    }
}

impl Loaded {
    /// A free number for a blob to this device, while it has room.
    fn free(&self, device: DeviceKey) -> Result<u16, Refused> {
        let taken: BTreeSet<u16> =
            self.blobs.iter().filter(|(to, seq, ..)| *to == device && *seq != NOTE).map(|(_, seq, ..)| *seq).collect();
        if taken.len() >= limits::BLOBS_PER_DEVICE {
            return Err(Refused::MailboxFull);
        }
        // The lowest: what is delivered goes by its revision, and a number that was another's before has a later one.
        (FIRST_FREE..NOTE).find(|seq| !taken.contains(seq)).ok_or(Refused::MailboxFull)
    }
}
