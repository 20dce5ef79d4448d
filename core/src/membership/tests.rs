//! A store with some keepers before it, and what becomes of a fleet.

use tandem_wire::tunnel::Cookie;
use tandem_wire::units::{Span, Wall};

use super::*;
use crate::topology::Incarnation;

/// A store with any number of keepers before it, each of which sees every change at once.
struct World {
    now: Mono,
    revision: u64,
    members: BTreeMap<RelayId, (Member, Revision)>,
    table: Option<(Table, Revision)>,
    keepers: Vec<Keeper>,
    /// Tables that were written.
    written: usize,
    /// Writes that came too late.
    stale: usize,
}

fn id(n: u16) -> RelayId {
    RelayId(n)
}

impl World {
    fn new(keepers: usize) -> Self {
        let mut world = Self {
            now: Mono::from_nanos(1),
            revision: 0,
            members: BTreeMap::new(),
            table: None,
            keepers: (0..keepers).map(|_| Keeper::default()).collect(),
            written: 0,
            stale: 0,
        };
        for at in 0..keepers {
            world.list(at);
        }
        world
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall: Wall::default() }
    }

    fn list(&mut self, at: usize) {
        let members = self.members.iter().map(|(id, (entry, revision))| (*id, entry.clone(), *revision)).collect();
        let input = Input::Listed { members, table: self.table.clone() };
        let now = self.now();
        self.keepers[at].handle(now, input);
    }

    fn tell(&mut self, input: &Input) {
        let now = self.now();
        self.keepers.iter_mut().for_each(|keeper| keeper.handle(now, input.clone()));
    }

    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    fn put(&mut self, id: RelayId, change: impl FnOnce(&mut Member)) {
        let fresh = || {
            let tunnel = format!("192.0.2.1:{}", 7_000 + id.0).parse().unwrap();
            Member::starting(Incarnation(self.revision + 1), Cookie::from_bits(u64::from(id.0)), tunnel)
        };
        let mut entry = self.members.get(&id).map_or_else(fresh, |(entry, _)| entry.clone());
        change(&mut entry);
        let revision = self.next();
        self.members.insert(id, (entry.clone(), revision));
        self.tell(&Input::Member { id, entry: Some((entry, revision)) });
    }

    fn start(&mut self, relays: impl IntoIterator<Item = u16>) {
        relays.into_iter().for_each(|n| self.put(id(n), |_| {}));
    }

    fn remove(&mut self, id: RelayId) {
        self.members.remove(&id);
        self.next();
        self.tell(&Input::Member { id, entry: None });
    }

    /// Does what the keepers want, each in turn, as a store would.
    fn carry_out(&mut self) {
        for at in 0..self.keepers.len() {
            while let Some(output) = self.keepers[at].poll() {
                match output {
                    Output::WriteTable { table, based_on } => {
                        let stored = self.table.as_ref().map_or(Revision::ZERO, |(_, revision)| *revision);
                        if stored != based_on {
                            self.stale += 1;
                            continue;
                        }
                        let epoch = self.table.as_ref().map_or(0, |(table, _)| table.epoch);
                        assert_eq!(table.epoch, epoch + 1);
                        let revision = self.next();
                        self.table = Some((table, revision));
                        self.written += 1;
                        self.tell(&Input::Table(self.table.clone()));
                    }
                    Output::Remove { id, based_on } => {
                        if self.members.get(&id).is_some_and(|(_, revision)| *revision == based_on) {
                            self.remove(id);
                        } else {
                            self.stale += 1;
                        }
                    }
                }
            }
        }
    }

    /// Lets time pass, deadline by deadline; live relays beat.
    fn pass(&mut self, span: Span, live: &[u16]) {
        let until = self.now.after(span);
        let mut beat = self.now.after(limits::MEMBER_BEAT);
        self.carry_out();
        loop {
            let next = self.keepers.iter().filter_map(Keeper::next_deadline).min();
            let at = next.unwrap_or(until).min(beat).min(until);
            assert!(at > self.now || at == until, "a deadline that does not pass");
            self.now = at.max(self.now);
            if self.now >= beat {
                beat = beat.after(limits::MEMBER_BEAT);
                live.iter().for_each(|n| self.put(id(*n), |entry| entry.beat += 1));
            }
            self.tell(&Input::Tick);
            self.carry_out();
            if self.now >= until {
                return;
            }
        }
    }

    /// What stands in the table.
    fn standings(&self) -> Vec<(u16, Standing)> {
        let table = self.table.as_ref().map(|(table, _)| table.relays.clone()).unwrap_or_default();
        table.iter().map(|row| (row.id.0, row.standing)).collect()
    }

    fn epoch(&self) -> u32 {
        self.table.as_ref().map_or(0, |(table, _)| table.epoch)
    }
}

const SECOND: Span = Span::from_secs(1);
use Standing::{Draining, Filling, Serving};

#[test]
fn a_fleet_that_starts_serves_at_once_with_one_table() {
    let mut world = World::new(2);
    world.start([1, 2, 3, 4]);
    world.pass(Span::from_millis(999), &[]);
    assert_eq!(world.written, 0, "it waits for those who come with them");
    world.pass(Span::from_millis(1), &[]);
    assert_eq!(world.standings(), [(1, Serving), (2, Serving), (3, Serving), (4, Serving)]);
    world.pass(SECOND, &[]);
    assert_eq!((world.written, world.epoch()), (1, 1));
}

#[test]
fn a_relay_that_joins_fills_first_and_serves_when_it_is_warm_for_that_table() {
    let mut world = World::new(2);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    world.start([3]);
    world.pass(Span::from_secs(60), &[1, 2, 3]);
    assert_eq!((world.standings(), world.epoch()), (vec![(1, Serving), (2, Serving), (3, Filling)], 2));
    world.put(id(3), |entry| entry.warm = 1);
    world.pass(SECOND, &[1, 2, 3]);
    assert_eq!(world.epoch(), 2, "warm for an older table is not warm");
    world.put(id(3), |entry| entry.warm = 2);
    world.pass(SECOND, &[1, 2, 3]);
    assert_eq!((world.standings(), world.epoch()), (vec![(1, Serving), (2, Serving), (3, Serving)], 3));
}

#[test]
fn a_relay_that_is_started_again_fills_again() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    world.put(id(2), |entry| {
        entry.incarnation.0 += 1;
        entry.cookie = Cookie::from_bits(99);
    });
    world.pass(SECOND, &[1, 2]);
    assert_eq!(world.standings(), [(1, Serving), (2, Filling)]);
    let row = world.table.as_ref().unwrap().0.row(id(2)).unwrap().clone();
    assert_eq!(row.cookie, Cookie::from_bits(99));
}

#[test]
fn a_relay_that_drains_has_its_share_taken_and_gets_it_back_when_it_wants_to_and_is_warm() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    world.put(id(1), |entry| entry.wish = Wish::Drain);
    world.pass(SECOND, &[1, 2]);
    assert_eq!(world.standings(), [(1, Draining), (2, Serving)]);
    world.put(id(1), |entry| entry.wish = Wish::Serve);
    world.pass(SECOND, &[1, 2]);
    assert_eq!(world.standings(), [(1, Filling), (2, Serving)]);
    let epoch = world.epoch();
    world.put(id(1), |entry| entry.warm = epoch);
    world.pass(SECOND, &[1, 2]);
    assert_eq!(world.standings(), [(1, Serving), (2, Serving)]);
}

#[test]
fn if_all_who_are_left_fill_they_serve() {
    let mut world = World::new(1);
    world.start([1]);
    world.pass(SECOND, &[1]);
    world.start([2]);
    world.pass(SECOND, &[1, 2]);
    assert_eq!(world.standings(), [(1, Serving), (2, Filling)]);
    world.remove(id(1));
    world.pass(SECOND, &[2]);
    assert_eq!(world.standings(), [(2, Serving)]);
}

#[test]
fn an_entry_that_no_longer_changes_goes_after_fifteen_seconds_and_no_other() {
    let mut world = World::new(2);
    world.start([1, 2, 3]);
    world.pass(SECOND, &[1, 2, 3]);
    world.pass(Span::from_secs(14), &[1, 3]);
    assert_eq!(world.standings().len(), 3);
    world.pass(Span::from_secs(3), &[1, 3]);
    assert_eq!(world.standings(), [(1, Serving), (3, Serving)]);
    assert_eq!(world.epoch(), 2);
    world.pass(Span::from_secs(600), &[1, 3]);
    assert_eq!(world.epoch(), 2);
}

#[test]
fn nobody_is_removed_for_what_the_store_could_not_take() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    for _ in 0..60 {
        world.pass(SECOND, &[]);
        world.tell(&Input::Away);
    }
    // The first is heard again five seconds later.
    world.pass(Span::from_secs(19), &[1]);
    assert_eq!(world.members.len(), 2);
    world.pass(Span::from_secs(2), &[1]);
    assert_eq!(world.members.keys().collect::<Vec<_>>(), [&id(1)], "but for silence after that");
}

/// A store that is so slow that no relay's beat gets through takes every write of a keeper.
#[test]
fn nobody_is_removed_while_nobody_is_heard_nor_before_there_was_time_to_be_heard_again() {
    let mut world = World::new(2);
    world.start([1, 2, 3, 4]);
    world.pass(SECOND, &[1, 2, 3, 4]);
    // Each is heard last at a moment of its own.
    for n in 1..=4 {
        world.pass(SECOND, &[]);
        world.put(id(n), |entry| entry.beat += 1);
    }
    world.pass(Span::from_secs(600), &[]);
    assert_eq!((world.members.len(), world.epoch()), (4, 1));
    // The first is back, and the others as long after it as a beat may be late: but for one, which is gone.
    for back in 0..16 {
        world.pass(Span::from_secs(60 + back), &[]);
        world.put(id(3), |entry| entry.beat += 1);
        world.pass(Span::from_secs(7), &[]);
        assert_eq!((world.members.len(), world.epoch()), (4, 1));
    }
    world.pass(Span::from_secs(26), &[1, 2, 3]);
    assert_eq!(world.standings(), [(1, Serving), (2, Serving), (3, Serving)]);
}

/// A rack of three goes: one is left to show that it was not the store.
#[test]
fn most_of_a_fleet_are_removed_when_one_is_heard() {
    let mut world = World::new(2);
    world.start([1, 2, 3, 4]);
    world.pass(SECOND, &[1, 2, 3, 4]);
    world.pass(Span::from_secs(21), &[2]);
    assert_eq!(world.standings(), [(2, Serving)]);
}

#[test]
fn who_is_heard_while_a_keeper_cannot_write_does_not_make_the_others_silent() {
    let mut world = World::new(1);
    world.start([1, 2]);
    let ten = Span::from_secs(10);
    world.pass(ten, &[1]);
    world.tell(&Input::Away);
    world.pass(ten, &[1]);
    assert_eq!(world.members.len(), 2);
    world.pass(ten, &[1]);
    assert_eq!(world.members.len(), 1);
}

#[test]
fn a_removal_that_has_not_come_about_is_asked_for_once_a_second() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(Span::from_secs(14), &[1]);
    world.put(id(1), |entry| entry.beat += 1);
    let mut asked = |ms| {
        world.now = world.now.after(Span::from_millis(ms));
        world.tell(&Input::Tick);
        std::iter::from_fn(|| world.keepers[0].poll()).count()
    };
    assert_eq!([asked(1_000), asked(0), asked(999), asked(1)], [1, 0, 0, 1]);
}

#[test]
fn a_list_that_shows_the_same_entry_does_not_count_as_a_sign_of_life() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    for _ in 0..16 {
        world.pass(SECOND, &[]);
        // The other one's does: that is seen in a list as well.
        world.members.get_mut(&id(1)).unwrap().1 = world.next();
        world.list(0);
        world.carry_out();
    }
    assert_eq!(world.members.keys().collect::<Vec<_>>(), [&id(1)]);
}

#[test]
fn entries_that_flap_do_not_make_a_table_each() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    for n in 0..20 {
        world.put(id(2), |entry| entry.wish = if n % 2 == 0 { Wish::Drain } else { Wish::Serve });
        world.pass(Span::from_millis(400), &[]);
    }
    assert_eq!((world.written, world.standings()), (1, vec![(1, Serving), (2, Serving)]));
}

#[test]
fn a_relay_that_stood_still_gets_a_new_table_with_the_same_rows() {
    let mut world = World::new(2);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    world.put(id(1), |entry| entry.stops += 1);
    world.pass(SECOND, &[1, 2]);
    assert_eq!((world.standings(), world.epoch()), (vec![(1, Serving), (2, Serving)], 2));
}

#[test]
fn a_wall_clock_that_jumps_changes_nothing() {
    let mut world = World::new(1);
    world.start([1, 2]);
    world.pass(SECOND, &[1, 2]);
    for wall in [3_600_000, 0, u64::MAX] {
        let now = Now { mono: world.now, wall: Wall::from_millis(wall) };
        world.keepers[0].handle(now, Input::Tick);
        assert_eq!(world.keepers[0].poll(), None);
    }
}

#[test]
fn of_two_keepers_one_writes_each_table_and_what_a_newer_version_wrote_stays() {
    let mut world = World::new(3);
    world.start([1]);
    world.pass(SECOND, &[1]);
    let (mut table, _) = world.table.clone().unwrap();
    table.unknown.insert("zones".to_owned(), 3.into());
    let revision = world.next();
    world.table = Some((table, revision));
    world.tell(&Input::Table(world.table.clone()));
    world.start([2]);
    world.pass(SECOND, &[1, 2]);
    let (table, _) = world.table.clone().unwrap();
    assert_eq!((world.written, table.epoch, table.unknown["zones"].clone()), (2, 2, 3.into()));
}
