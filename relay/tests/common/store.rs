//! A store in memory that can be slow, away, or lose its answers, and in which somebody else may write.
//!
//! Decides what a store is: revisions go up, a write that is based on another revision is refused. Records are kept as
//! the bytes that they are in a real store, so that nothing survives a restart but what is written down.

use std::collections::{BTreeMap, VecDeque};

use tandem_core::residency::{Input, Snapshot};
use tandem_core::topology::{Attachment, Call};
use tandem_relay::engine::{Output, StoreEvent};
use tandem_wire::id::{CallId, LegId, RelayId, Revision};

/// How the store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers at once.
    Prompt,
    /// Takes questions and answers none until it is told to catch up.
    Slow,
    /// Cannot be reached.
    Away,
    /// Somebody else writes every record just before we do.
    Contended,
    /// Does what it is asked, and loses the answer on the way.
    Losing,
}

/// Whether what is written also comes back as a change that is followed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    Never,
    BeforeTheAnswer,
    AfterTheAnswer,
}

pub(crate) struct Store {
    pub(crate) mood: Mood,
    pub(crate) echo: Echo,
    revision: u64,
    calls: BTreeMap<CallId, (Vec<u8>, Revision)>,
    legs: BTreeMap<(CallId, LegId), (Vec<u8>, Revision)>,
    waiting: VecDeque<Output>,
    /// Loads that it was asked for, whatever became of them.
    pub(crate) loads: Vec<CallId>,
    /// Writes that it was asked for.
    pub(crate) writes: usize,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            mood: Mood::Prompt,
            echo: Echo::AfterTheAnswer,
            revision: 100,
            calls: BTreeMap::new(),
            legs: BTreeMap::new(),
            waiting: VecDeque::new(),
            loads: Vec::new(),
            writes: 0,
        }
    }

    pub(crate) fn call(&self, call: CallId) -> Option<(Call, Revision)> {
        self.calls.get(&call).map(|(bytes, revision)| (Call::from_json(bytes).unwrap(), *revision))
    }

    /// What is durable about a leg.
    pub(crate) fn leg(&self, call: CallId, leg: LegId) -> Option<Attachment> {
        self.legs.get(&(call, leg)).map(|(bytes, _)| Attachment::from_json(bytes).unwrap())
    }

    pub(crate) fn legs(&self) -> impl Iterator<Item = (CallId, LegId, Attachment)> {
        self.legs.iter().map(|((call, leg), (bytes, _))| (*call, *leg, Attachment::from_json(bytes).unwrap()))
    }

    pub(crate) fn call_ids(&self) -> Vec<CallId> {
        self.calls.keys().copied().collect()
    }

    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    pub(crate) fn put_call(&mut self, call: CallId, record: &Call) -> StoreEvent {
        let revision = self.next();
        self.calls.insert(call, (record.to_json().unwrap(), revision));
        Input::CallChanged { call, record: Some(record.clone()), revision }
    }

    pub(crate) fn delete_call(&mut self, call: CallId) -> StoreEvent {
        self.calls.remove(&call);
        self.legs.retain(|(other, _), _| *other != call);
        Input::CallChanged { call, record: None, revision: self.next() }
    }

    /// Somebody else writes a leg's record.
    pub(crate) fn put_leg(&mut self, call: CallId, leg: LegId, record: &Attachment) -> StoreEvent {
        let revision = self.next();
        self.legs.insert((call, leg), (record.to_json().unwrap(), revision));
        Input::AttachmentChanged { call, leg, record: Some(record.clone()), revision }
    }

    pub(crate) fn snapshot(&self, call: CallId) -> Snapshot {
        let legs = self.legs.iter().filter(|((other, _), _)| *other == call);
        Snapshot {
            at: Revision(self.revision),
            call: self.call(call),
            legs: legs.map(|((_, leg), (bytes, at))| (*leg, Attachment::from_json(bytes).unwrap(), *at)).collect(),
        }
    }

    /// Whether questions wait for an answer.
    pub(crate) fn owes(&self) -> usize {
        self.waiting.len()
    }

    /// The relay that asked is dead: nobody waits for what the store still owes. What it was asked to write, it writes.
    pub(crate) fn orphan(&mut self) {
        for question in std::mem::take(&mut self.waiting) {
            let _ = self.answer(question);
        }
    }

    /// What the store says to a question, in its mood.
    pub(crate) fn ask(&mut self, question: Output) -> Vec<StoreEvent> {
        match &question {
            Output::Load { call } => self.loads.push(*call),
            Output::Write { .. } => self.writes += 1,
            Output::Answer { .. } | Output::Packet { .. } => panic!("that is not for the store"),
        }
        match self.mood {
            Mood::Prompt => self.answer(question),
            Mood::Slow => {
                self.waiting.push_back(question);
                Vec::new()
            }
            Mood::Away => vec![lost(&question)],
            Mood::Losing => {
                let away = lost(&question);
                let said = self.answer(question);
                said.into_iter()
                    .filter(|event| matches!(event, Input::AttachmentChanged { .. }))
                    .chain([away])
                    .collect()
            }
            Mood::Contended => {
                let mut said = Vec::new();
                if let Output::Write { call, leg, .. } = &question {
                    let theirs = self.leg(*call, *leg).unwrap_or_else(|| Attachment::empty(RelayId(99)));
                    let change = self.put_leg(*call, *leg, &Attachment { relay: RelayId(99), ..theirs });
                    said.extend((self.echo == Echo::BeforeTheAnswer).then_some(change));
                }
                said.extend(self.answer(question));
                said
            }
        }
    }

    /// What it says to everything that it was asked while it was slow.
    pub(crate) fn catch_up(&mut self) -> Vec<StoreEvent> {
        std::mem::take(&mut self.waiting).into_iter().flat_map(|question| self.answer(question)).collect()
    }

    fn answer(&mut self, question: Output) -> Vec<StoreEvent> {
        match question {
            Output::Load { call } => vec![Input::Loaded { call, snapshot: self.snapshot(call) }],
            Output::Write { call, leg, attachment, based_on } => {
                let stored = self.legs.get(&(call, leg)).map_or(Revision::ZERO, |(_, revision)| *revision);
                if stored != based_on {
                    return vec![Input::WriteStale { call, leg }];
                }
                let echo = self.put_leg(call, leg, &attachment);
                let written = Input::Written { call, leg, revision: Revision(self.revision) };
                match self.echo {
                    Echo::Never => vec![written],
                    Echo::BeforeTheAnswer => vec![echo, written],
                    Echo::AfterTheAnswer => vec![written, echo],
                }
            }
            Output::Answer { .. } | Output::Packet { .. } => Vec::new(),
        }
    }
}

fn lost(question: &Output) -> StoreEvent {
    match question {
        Output::Write { call, leg, .. } => Input::WriteAway { call: *call, leg: *leg },
        Output::Load { call } => Input::LoadFailed { call: *call },
        Output::Answer { .. } | Output::Packet { .. } => panic!("that is not for the store"),
    }
}
