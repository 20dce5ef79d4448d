//! The pulse of the fleet: probes go out, echoes come in, and what their absence means.
//!
//! Decides when a relay is asked, and when several that are silent are our own fault. Leaves what one relay's silence means to
//! `health`, and where packets go meanwhile to `fleet`.

use core::hash::BuildHasher as _;
use core::net::{Ipv6Addr, SocketAddr};

use tandem_wire::id::{BucketId, RelayId};
use tandem_wire::redact::ClientAddr;
use tandem_wire::tunnel::{HEAD_LEN, Head, PROBE_LEN, Probe};
use tandem_wire::units::Mono;

use super::counters::Dropped;
use super::fleet::{Fleet, Relay};
use super::health::{Cause, Frozen, Health, is_ours};
use super::{Line, Output};
use crate::limits;

/// A probe as it is sent.
pub const PROBE_DATAGRAM_LEN: usize = HEAD_LEN + PROBE_LEN;

impl Fleet {
    /// What a relay sends that is no packet for a client.
    pub(super) fn told(&mut self, now: Mono, line: Line, head: &Head, rest: &[u8]) -> Result<(), Dropped> {
        let relay = self.at_line(line).ok_or(Dropped::NoHead)?;
        let known = head.cookie == relay.cookie;
        if head.leaving && rest.is_empty() {
            if !known {
                return Err(Dropped::WrongCookie);
            }
            self.take_down(line, Cause::Leaving);
            return Ok(());
        }
        let probe = Probe::read(rest).filter(|_| head.probe).ok_or(Dropped::NotBack)?;
        // Only who has seen the probe knows its stamp: what an echo says of its sender is true whatever the cookie is.
        let number = self.number_of(line, probe.stamp).ok_or(Dropped::NotBack)?;
        let relay = self.at_line(line).ok_or(Dropped::NoHead)?;
        if probe.incarnation > relay.incarnation.0 {
            self.take_down(line, Cause::Replaced);
            return Ok(());
        }
        if probe.incarnation < relay.incarnation.0 {
            // The last word of the run before.
            return Err(Dropped::NotBack);
        }
        if !known {
            return Err(Dropped::WrongCookie);
        }
        if !relay.health.probes.echo(number) {
            return Err(Dropped::NotBack);
        }
        self.counters.echoes += 1;
        self.change(line, |health| health.echoed(now, number, probe.load, head.leaving));
        self.thaw(now);
        Ok(())
    }

    /// The network refuses what is sent to a relay.
    pub(super) fn refused(&mut self, now: Mono, line: Line) {
        if self.at_line(line).is_some_and(|relay| relay.health.refused(now)) {
            let confirmed = now.after(limits::REFUSAL_CONFIRMED);
            self.due = Some(self.due.map_or(confirmed, |due| due.min(confirmed)));
            self.probe(now, line);
        }
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        [self.due, self.next_probe].into_iter().flatten().min()
    }

    /// Looks at everybody, and sends the next round of probes if it is time. Gives whether it was.
    pub(super) fn expire(&mut self, now: Mono) -> bool {
        let Some(next_probe) = self.next_probe.filter(|_| !self.relays.is_empty()) else {
            (self.next_probe, self.due) = (None, None);
            return false;
        };
        let late = now.since(next_probe);
        if late > limits::OWN_PAUSE {
            // Nobody was asked in this time, and nobody listened.
            self.counters.pauses += 1;
            self.relays.iter_mut().for_each(|relay| relay.health.forgive(now, late));
        }
        self.judge_refusals(now);
        self.judge_silence(now);
        let round = next_probe <= now;
        if round {
            self.round(now);
            let next = next_probe.after(limits::PROBE_EVERY);
            // Probes that could not be sent in time are not made up for.
            self.next_probe = Some(if next > now { next } else { now.after(limits::PROBE_EVERY) });
        }
        let frozen = self.frozen.is_some();
        self.due = self.relays.iter().filter_map(|relay| relay.health.next_deadline(frozen)).min();
        round
    }

    fn judge_refusals(&mut self, now: Mono) {
        for line in self.lines_of(|health| health.refusal_stands(now)) {
            self.take_down(line, Cause::Refused);
        }
    }

    fn judge_silence(&mut self, now: Mono) {
        for line in self.lines_of(|_| true) {
            self.change(line, |health| health.suspect(now));
        }
        if self.frozen.is_some() {
            return;
        }
        let silent = self.lines_of(|health| health.silent_too_long(now));
        if silent.is_empty() {
            return;
        }
        let together = |relay: &&Relay| relay.health.fell_silent_lately(now);
        let troubled: Vec<(RelayId, Line)> =
            self.relays.iter().filter(together).map(|relay| (relay.id, relay.line)).collect();
        let present = self.relays.iter().filter(|relay| !relay.health.is_down() || together(relay)).count();
        if is_ours(troubled.len(), present) {
            self.counters.freezes += 1;
            // Those that were taken for down in these moments, before it was clear, are not.
            troubled.iter().for_each(|(_, line)| self.change(*line, Health::revive));
            self.frozen = Some(Frozen::new(now, troubled.into_iter().map(|(id, _)| id).collect()));
            self.outputs.push_back(Output::Frozen { frozen: true });
        } else {
            silent.into_iter().for_each(|line| self.take_down(line, Cause::Silent));
        }
    }

    /// Ends the frost if enough of those that were silent are heard again.
    pub(super) fn thaw(&mut self, now: Mono) {
        let Some(frozen) = &self.frozen else { return };
        let heard =
            self.relays.iter().filter(|relay| frozen.has(relay.id) && relay.health.heard_after(frozen.since)).count();
        if frozen.is_over(heard) {
            self.frozen = None;
            // Those that still are silent are looked at at once.
            self.due = Some(now);
            self.outputs.push_back(Output::Frozen { frozen: false });
        }
    }

    /// One probe to everybody, and a judgement on what became of the last ones.
    fn round(&mut self, now: Mono) {
        for line in self.lines_of(|_| true) {
            self.probe(now, line);
        }
        let lossy: Vec<Line> = self
            .relays
            .iter_mut()
            .filter_map(|relay| (relay.health.probes.lossy() && !relay.health.is_down()).then_some(relay.line))
            .collect();
        if lossy.is_empty() || self.frozen.is_some() {
            return;
        }
        let bad = self.relays.iter().filter(|relay| !relay.health.is_down() && relay.health.probes.is_bad()).count();
        let present = self.relays.iter().filter(|relay| !relay.health.is_down()).count();
        if !is_ours(bad, present) {
            lossy.into_iter().for_each(|line| self.take_down(line, Cause::Lossy));
        }
        self.thaw(now);
    }

    fn probe(&mut self, now: Mono, line: Line) {
        let epoch = self.epoch;
        let Some(relay) = self.at_line(line) else { return };
        let (number, cookie, down) = (relay.health.probe(), relay.cookie, relay.health.is_down_and_well(now));
        let nobody = ClientAddr::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
        let head = Head { probe: true, down, ..Head::to_relay(nobody, BucketId(0), epoch, cookie) };
        let probe = Probe { stamp: self.stamp_of(line, number), ..Probe::default() };
        let mut bytes = [0; PROBE_DATAGRAM_LEN];
        for (to, from) in bytes.iter_mut().zip(head.to_bytes().into_iter().chain(probe.to_bytes())) {
            *to = from;
        }
        self.counters.probes += 1;
        self.outputs.push_back(Output::Probe { line, bytes });
    }

    /// The stamp of a probe: its number, and 32 bits that nobody can guess who has not seen it.
    fn stamp_of(&self, line: Line, number: u32) -> u64 {
        let seal = self.stamps.hash_one((line.0, number)) & 0xffff_ffff;
        (seal << 32) | u64::from(number)
    }

    fn number_of(&self, line: Line, stamp: u64) -> Option<u32> {
        let number = u32::try_from(stamp & 0xffff_ffff).ok()?;
        (self.stamp_of(line, number) == stamp).then_some(number)
    }

    fn lines_of(&self, which: impl Fn(&Health) -> bool) -> Vec<Line> {
        self.relays.iter().filter(|relay| which(&relay.health)).map(|relay| relay.line).collect()
    }

    pub(super) fn take_down(&mut self, line: Line, cause: Cause) {
        let at = match cause {
            Cause::Silent => 0,
            Cause::Refused => 1,
            Cause::Leaving => 2,
            Cause::Replaced => 3,
            Cause::Lossy => 4,
        };
        if self.at_line(line).is_some_and(|relay| !relay.health.is_down())
            && let Some(total) = self.counters.downs.get_mut(at)
        {
            *total += 1;
        }
        self.change(line, |health| health.take_down(cause));
    }

    /// Changes a relay's health, and says so if its state changed with it.
    fn change(&mut self, line: Line, act: impl FnOnce(&mut Health)) {
        let Some(relay) = self.at_line(line) else { return };
        let before = relay.health.state();
        act(&mut relay.health);
        let (id, after) = (relay.id, relay.health.state());
        if before != after {
            self.outputs.push_back(Output::Turned { relay: id, state: after });
        }
    }
}
