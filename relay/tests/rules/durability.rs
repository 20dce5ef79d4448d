//! What is told is durable; what the store is not needed for is answered without it; and when it is away for long, from
//! memory, counted, and written when it is back. The harness holds the first of these in every test.

use proptest::prelude::*;
use tandem_core::residency::Input;

use crate::common::*;

fn undurable(relay: &Relay) -> u64 {
    relay.engine.residency().counters().undurable.get()
}

#[test]
fn a_new_allocation_is_answered_when_it_is_durable_and_not_before() {
    for echo in [Echo::Never, Echo::BeforeTheAnswer, Echo::AfterTheAnswer] {
        let mut relay = Relay::new();
        let call = relay.create(1, 2);
        relay.store.echo = echo;
        let mut one = Client::new(&relay, call, 1, A);
        one.learn_nonce(&mut relay);
        relay.store.mood = Mood::Slow;
        assert_eq!(one.allocate(&mut relay), None);
        assert!(relay.pass(2_900).is_empty(), "nor later");
        let sent = relay.catch_up();
        let reply = one.reply(&sent).unwrap();
        assert_eq!((sent.len(), reply.code, reply.relayed), (1, 0, Some(addr(LEG1))));
        assert_eq!(undurable(&relay), 0);
    }
}

#[test]
fn a_new_channel_is_answered_when_it_is_durable_and_not_before() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.mood = Mood::Slow;
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
    assert!(relay.pass(2_900).is_empty());
    let sent = relay.catch_up();
    assert_eq!((sent.len(), one.reply(&sent).map(|reply| reply.code)), (1, Some(0)));
    assert_eq!((relay.stored_channels(&one), undurable(&relay)), (vec![0x4001], 0));
}

/// A client asks again at 250 ms, 500 ms and so on, each time with the same transaction.
#[test]
fn who_asks_again_while_it_is_written_is_answered_too_and_it_is_written_once() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.mood = Mood::Slow;
    let bind = one.signed(kind::BIND, &[Part::channel(0x4001), Part::peer(LEG2)]);
    let writes = relay.store.writes;
    for _ in 0..4 {
        assert_eq!(one.exchange(&mut relay, &bind), None);
        relay.pass(250);
    }
    let sent = relay.catch_up();
    assert_eq!((sent.len(), relay.store.writes - writes), (4, 1));
    let mut new = one.on_socket("198.51.100.7:41000");
    new.learn_nonce(&mut relay);
    relay.store.mood = Mood::Slow;
    let allocate = new.signed(kind::ALLOCATE, &[Part::udp()]);
    for _ in 0..4 {
        assert_eq!(new.exchange(&mut relay, &allocate), None);
        relay.pass(250);
    }
    let sent = relay.catch_up();
    let relayed: Vec<_> = sent.iter().map(|sent| new.reply(std::slice::from_ref(sent)).unwrap().relayed).collect();
    assert_eq!(relayed, [Some(addr("203.0.113.2:1025")); 4], "all four are told the same");
    assert_eq!(relay.stored_allocations(&one), 2);
}

#[test]
fn what_only_renews_is_answered_from_memory_with_the_store_away() {
    for mood in [Mood::Away, Mood::Slow, Mood::Losing] {
        let mut relay = Relay::new();
        let (mut one, mut two) = channel_pair(&mut relay);
        relay.store.mood = mood;
        let writes = relay.store.writes;
        for _ in 0..10 {
            assert_eq!(one.refresh(&mut relay, 600), Some(0), "{mood:?}");
            assert_eq!(one.permit(&mut relay, "203.0.113.3:1026"), Some(0));
            assert_eq!(one.bind(&mut relay, 0x4001, LEG2), Some(0));
            assert_eq!(one.attach(&mut relay), LEG1, "as is a retransmitted Allocate");
            assert_eq!(two.refresh(&mut relay, 600), Some(0));
            assert_eq!(one.send(&mut relay, 0x4001, b"x"), on_channel(B, 0x4001, b"x"));
            relay.pass(5 * MINUTE);
        }
        assert_eq!((relay.store.writes, undurable(&relay)), (writes, 0), "the store is not needed for any of it");
    }
}

#[test]
fn refusals_that_need_no_store_are_given_with_the_store_away() {
    let mut relay = Relay::new();
    let (mut one, _) = channel_pair(&mut relay);
    relay.store.mood = Mood::Away;
    assert_eq!(one.bind(&mut relay, 0x4001, LEG1), Some(400));
    assert_eq!(one.permit(&mut relay, "10.0.0.1:1"), Some(403));
}

#[test]
fn a_leg_that_the_record_does_not_have_is_refused_only_when_the_store_was_asked_for_it() {
    let mut relay = Relay::new();
    let (one, _) = channel_pair(&mut relay);
    let loads = relay.store.loads.len();
    let code = |relay: &mut Relay, leg: u16, port: u16| {
        Client::new(relay, one.call, leg, &format!("198.51.100.9:{port}")).allocate(relay).map(|r| r.code)
    };
    // Its ticket may have been given with a record that is on its way to us.
    relay.store.mood = Mood::Away;
    assert_eq!(code(&mut relay, 3, 1), None);
    relay.store.mood = Mood::Prompt;
    relay.pass(2_000);
    assert_eq!(code(&mut relay, 3, 2), Some(403));
    // Again within a second: silence, since the change may have been made after we asked.
    assert_eq!(code(&mut relay, 3, 3), None);
    relay.pass(1_000);
    assert_eq!(code(&mut relay, 3, 4), Some(403));
    assert!(relay.store.loads.len() > loads, "the store was asked");
}

#[test]
fn a_new_channel_is_answered_after_three_seconds_without_the_store_and_written_when_it_is_back() {
    for mood in [Mood::Away, Mood::Slow] {
        let mut relay = Relay::new();
        let (mut one, _) = pair(&mut relay);
        relay.store.mood = mood;
        assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None, "{mood:?}");
        assert!(relay.pass(2_950).is_empty(), "not a moment too soon");
        assert_eq!(undurable(&relay), 0);
        let sent = relay.pass(100);
        assert_eq!((sent.len(), one.reply(&sent).map(|reply| reply.code)), (1, Some(0)));
        assert_eq!((undurable(&relay), relay.stored_channels(&one)), (1, vec![]));
        assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
        assert!(relay.catch_up().is_empty(), "it is not answered twice");
        assert!(relay.pass(2_000).is_empty());
        assert_eq!(relay.stored_channels(&one), [0x4001]);
        relay.fail_over();
        assert_indication(&one.send(&mut relay, 0x4001, b"x"), B, LEG1, b"x");
    }
}

#[test]
fn a_new_allocation_is_answered_after_three_seconds_without_the_store_and_written_when_it_is_back() {
    let mut relay = Relay::new();
    let (one, two) = channel_pair(&mut relay);
    let mut new = one.on_socket("198.51.100.7:41000");
    new.learn_nonce(&mut relay);
    relay.store.mood = Mood::Away;
    assert_eq!(new.allocate(&mut relay), None);
    assert!(relay.pass(2_950).is_empty());
    let sent = relay.pass(100);
    assert_eq!(new.reply(&sent).unwrap().relayed, Some(addr("203.0.113.2:1025")));
    assert_eq!((undurable(&relay), relay.stored_allocations(&one)), (1, 1));
    assert_indication(&two.indicate(&mut relay, "203.0.113.2:1025", b"x"), "198.51.100.7:41000", LEG2, b"x");
    relay.store.mood = Mood::Prompt;
    relay.pass(2_000);
    assert_eq!(relay.stored_allocations(&one), 2);
    relay.fail_over();
    assert_eq!(new.attach(&mut relay), "203.0.113.2:1025");
}

/// However long it is away: the wait is for the store, and it has been waited for.
#[test]
fn a_store_that_is_away_for_minutes_keeps_nobody_waiting_more_than_three_seconds() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.mood = Mood::Away;
    for n in 0..10_u16 {
        let mut answered = one.bind(&mut relay, 0x4001 + n, &format!("203.0.113.9:{}", 2_000 + n)).is_some();
        answered |= one.reply(&relay.pass(3_050)).is_some();
        assert!(answered, "the {n}th");
        relay.pass(20_000);
    }
    assert_eq!(undurable(&relay), 10);
    relay.store.mood = Mood::Prompt;
    relay.pass(2_000);
    assert_eq!(relay.stored_channels(&one), (0x4001..0x400b).collect::<Vec<_>>());
}

/// A store that is back is back for everyone: what is new then waits for it again.
#[test]
fn after_the_store_is_back_what_is_new_waits_for_it_again() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.mood = Mood::Away;
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
    relay.pass(10_000);
    assert_eq!(undurable(&relay), 1);
    relay.store.mood = Mood::Prompt;
    relay.pass(2_000);
    relay.store.mood = Mood::Slow;
    assert_eq!(one.bind(&mut relay, 0x4002, LEG1), None);
    assert!(relay.pass(2_900).is_empty());
    assert_eq!(one.reply(&relay.catch_up()).map(|reply| reply.code), Some(0));
    assert_eq!(undurable(&relay), 1);
}

/// The write is done, its answer is lost: who asks again is answered, and gets the same.
#[test]
fn an_answer_that_the_store_loses_costs_a_retransmission_and_nothing_else() {
    for echo in [Echo::Never, Echo::BeforeTheAnswer] {
        let mut relay = Relay::new();
        let call = relay.create(1, 2);
        relay.store.echo = echo;
        let mut one = Client::new(&relay, call, 1, A);
        one.learn_nonce(&mut relay);
        relay.store.mood = Mood::Losing;
        let allocate = one.signed(kind::ALLOCATE, &[Part::udp()]);
        let at_once = one.exchange(&mut relay, &allocate);
        relay.store.mood = Mood::Prompt;
        let later = at_once.or_else(|| one.reply(&relay.pass(500))).or_else(|| one.exchange(&mut relay, &allocate));
        assert_eq!(later.map(|reply| reply.relayed), Some(Some(addr(LEG1))), "{echo:?}");
        assert_eq!((relay.stored_allocations(&one), undurable(&relay)), (1, 0));
    }
}

/// protocol.md, "When the store is away": from memory, **and written when the store is back**. Here the last write before
/// the store went away was done, and its answer lost, so that the relay's next one is based on an older record.
#[test]
fn what_was_promised_from_memory_outlives_an_answer_that_the_store_lost() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.echo = Echo::Never;
    relay.store.mood = Mood::Losing;
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
    relay.store.mood = Mood::Away;
    relay.pass(5_000);
    let reply = one.bind(&mut relay, 0x4002, LEG1);
    let reply = reply.or_else(|| one.reply(&relay.pass(4_000)).map(|reply| reply.code));
    assert_eq!(reply, Some(0), "told, from memory");
    relay.store.mood = Mood::Prompt;
    relay.pass(5_000);
    assert_eq!(one.send(&mut relay, 0x4002, b"x"), on_channel(A, 0x4002, b"x"), "and it is kept");
    assert_eq!(relay.stored_channels(&one), [0x4001, 0x4002], "and written");
}

/// The same with two changes, so that either may be what the store has: the second was asked for before the first write
/// was tried again.
#[test]
fn two_changes_whose_answers_were_lost_are_both_kept() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    relay.store.echo = Echo::Never;
    relay.store.mood = Mood::Losing;
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
    assert_eq!(one.bind(&mut relay, 0x4002, LEG1), None);
    assert_eq!(relay.pass(4_000).len(), 2, "told, from memory");
    relay.store.mood = Mood::Prompt;
    relay.pass(5_000);
    assert_eq!(one.send(&mut relay, 0x4002, b"x"), on_channel(A, 0x4002, b"x"), "and it is kept");
    assert_eq!(relay.stored_channels(&one), [0x4001, 0x4002], "and written");
}

/// One question that went unanswered, of a call that nobody asks about any more, does not make the store away for ever:
/// what is new later waits for it.
#[test]
fn one_load_that_failed_a_while_ago_makes_nothing_undurable() {
    let mut relay = Relay::new();
    let (mut one, _) = pair(&mut relay);
    let mut other = Client::new(&relay, call_id(40), 1, "198.51.100.9:1");
    other.learn_nonce(&mut relay);
    relay.store.mood = Mood::Away;
    assert_eq!(other.allocate(&mut relay), None);
    relay.store.mood = Mood::Slow;
    relay.pass(10_000);
    // The store is there, and takes its few milliseconds.
    assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
    assert!(relay.pass(10).is_empty());
    assert_eq!(one.reply(&relay.catch_up()).map(|reply| reply.code), Some(0));
    assert_eq!(undurable(&relay), 0);
}

/// A client that allocates, ends it and allocates again, all while the first is still being written: the answer to its
/// first request must not speak of the second allocation, which the store has never heard of.
#[test]
fn an_answer_that_has_waited_speaks_of_what_was_written_and_not_of_what_came_after() {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut one = Client::new(&relay, call, 1, A);
    one.learn_nonce(&mut relay);
    relay.store.mood = Mood::Slow;
    assert_eq!(one.allocate(&mut relay), None);
    assert_eq!(one.refresh(&mut relay, 0), Some(0));
    assert_eq!(one.allocate(&mut relay), None);
    // The first write is done; what it made durable is 203.0.113.1. The harness looks at what is told.
    let sent = relay.catch_up();
    assert_eq!(one.reply(&sent).map(|reply| reply.relayed), Some(Some(addr("203.0.113.2:1025"))));
}

/// Of two that write, the store lets one: the other reads what is there before it says anything.
#[test]
fn a_relay_that_was_overtaken_reads_before_it_answers() {
    for echo in [Echo::Never, Echo::BeforeTheAnswer] {
        let mut relay = Relay::new();
        let (mut one, two) = channel_pair(&mut relay);
        relay.store.echo = echo;
        relay.store.mood = Mood::Contended;
        let loads = relay.store.loads.len();
        assert_eq!(one.bind(&mut relay, 0x4002, "203.0.113.9:9"), None, "not on a record that is not there any more");
        assert!(relay.store.loads.len() > loads || echo == Echo::BeforeTheAnswer);
        assert_eq!(two.send(&mut relay, 0x4001, b"x"), on_channel(A, 0x4001, b"x"), "media goes on meanwhile");
        relay.store.mood = Mood::Prompt;
        relay.pass(1_000);
        assert_eq!(one.bind(&mut relay, 0x4002, "203.0.113.9:9"), Some(0));
        assert_eq!(relay.stored_channels(&one), [0x4001, 0x4002]);
    }
}

/// Between finding out that it was overtaken and having read again, a relay knows nothing: it says nothing.
#[test]
fn a_relay_that_was_overtaken_is_silent_until_it_has_read() {
    let mut relay = Relay::new();
    let (mut one, two) = channel_pair(&mut relay);
    relay.store.mood = Mood::Slow;
    assert_eq!(one.bind(&mut relay, 0x4002, "203.0.113.9:9"), None);
    let theirs = relay.store.leg(one.call, one.leg).unwrap();
    relay.store.put_leg(one.call, one.leg, &theirs);
    relay.tell(Input::WriteStale { call: one.call, leg: one.leg });
    let mut nobody = one.on_socket("198.51.100.7:41000");
    for _ in 0..3 {
        assert_eq!(one.refresh(&mut relay, 600), None);
        assert_eq!(nobody.refresh(&mut relay, 600), None, "above all not 437");
        assert_eq!(one.bind(&mut relay, 0x4001, LEG2), None);
        assert_eq!(two.send(&mut relay, 0x4001, b"x"), on_channel(A, 0x4001, b"x"));
        relay.pass(100);
    }
    relay.catch_up();
    assert_eq!(one.refresh(&mut relay, 600), Some(0));
    assert_eq!(nobody.refresh(&mut relay, 600), Some(437));
}

#[derive(Debug, Clone)]
enum Act {
    Allocate,
    Bind(u16),
    End,
    Refresh,
    Store(Mood),
    Echo(Echo),
    CatchUp,
    Pass(u64),
    FailOver,
}

fn acts(moods: &'static [Mood]) -> impl Strategy<Value = Vec<(usize, Act)>> {
    let mood = prop::sample::select(moods);
    let echo = prop_oneof![Just(Echo::Never), Just(Echo::BeforeTheAnswer), Just(Echo::AfterTheAnswer)];
    let act = prop_oneof![
        4 => Just(Act::Allocate),
        4 => (0_u16..4).prop_map(Act::Bind),
        1 => Just(Act::End),
        1 => Just(Act::Refresh),
        3 => mood.prop_map(Act::Store),
        1 => echo.prop_map(Act::Echo),
        2 => Just(Act::CatchUp),
        4 => prop_oneof![1_u64..400, 400_u64..5_000].prop_map(Act::Pass),
        1 => Just(Act::FailOver),
    ];
    prop::collection::vec((0_usize..4, act), 1..40)
}

/// Plays it through; in the end memory and store agree, and what each client was told and has not ended is in both
/// (unless somebody else wrote, which `alone` says).
fn play(acts: Vec<(usize, Act)>, alone: bool) -> Result<(), TestCaseError> {
    let mut relay = Relay::new();
    let call = relay.create(1, 2);
    let mut clients: Vec<Client> =
        (0..4_u16).map(|n| Client::new(&relay, call, n % 2 + 1, &format!("198.51.100.7:{}", 40_001 + n))).collect();
    clients.iter_mut().for_each(|client| client.learn_nonce(&mut relay));
    // What each was told: its address, and its channels.
    let mut told: Vec<Option<Vec<u16>>> = vec![None; 4];
    let mut asked: Vec<Option<Act>> = vec![None; 4];
    for (who, act) in acts {
        let client = &mut clients[who];
        let sent = match &act {
            Act::Allocate => relay.datagram(client.at, &client.signed(kind::ALLOCATE, &[Part::udp()])),
            Act::Bind(n) => {
                let parts = [Part::channel(0x4000 + n), Part::peer(&format!("203.0.113.9:{}", 2_000 + n))];
                relay.datagram(client.at, &client.signed(kind::BIND, &parts))
            }
            Act::End => relay.datagram(client.at, &client.signed(kind::REFRESH, &[Part::lifetime(0)])),
            Act::Refresh => relay.datagram(client.at, &client.signed(kind::REFRESH, &[Part::lifetime(3_600)])),
            Act::Store(mood) => {
                relay.store.mood = *mood;
                vec![]
            }
            Act::Echo(echo) => {
                relay.store.echo = *echo;
                vec![]
            }
            Act::CatchUp => relay.catch_up(),
            Act::Pass(millis) => relay.pass(*millis),
            Act::FailOver => {
                relay.fail_over();
                // What was told from memory, and counted as that, is lost with it.
                for (client, told) in clients.iter().zip(&mut told) {
                    let stored = relay.stored_channels(client);
                    told.iter_mut().for_each(|channels| channels.retain(|channel| stored.contains(channel)));
                    told.take_if(|_| !relay.is_attached(&client.at.to_string()));
                }
                vec![]
            }
        };
        if matches!(act, Act::Allocate | Act::Bind(_) | Act::End | Act::Refresh) {
            asked[who] = Some(act);
        }
        for (n, client) in clients.iter().enumerate() {
            let Some(reply) = client.reply(&sent) else { continue };
            match (&asked[n], reply.code) {
                (Some(Act::Allocate), 0) => _ = told[n].get_or_insert_default(),
                (Some(Act::Bind(number)), 0) => told[n].get_or_insert_default().push(0x4000 + number),
                (Some(Act::End), 0) => told[n] = None,
                (_, 0 | 437) => {}
                (act, code) => prop_assert!(false, "{act:?} was answered {code}"),
            }
        }
    }
    relay.catch_up();
    relay.pass(10_000);
    for (client, told) in clients.iter().zip(told).filter(|_| alone) {
        let Some(channels) = told else { continue };
        let record = relay.store.leg(client.call, client.leg).unwrap();
        prop_assert!(record.allocations.iter().any(|a| a.client.socket_addr() == client.at));
        let stored = relay.stored_channels(client);
        prop_assert!(channels.iter().all(|channel| stored.contains(channel)), "{channels:?} in {stored:?}");
    }
    for (call, leg, stored) in relay.store.legs() {
        prop_assert_eq!(relay.engine.residency().attachment(call, leg), Some(&stored), "memory and store agree");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]
    /// Whatever the store's moods are, what a client was told and has not ended is durable in the end; and (the harness)
    /// was when it was told, or was counted.
    #[test]
    fn what_clients_were_told_is_what_the_store_has_in_the_end(
        acts in acts(&[Mood::Prompt, Mood::Slow, Mood::Away])
    ) {
        play(acts, true)?;
    }

    /// The same with a store that does what it is asked, and whose answers get lost on the way.
    #[test]
    fn what_clients_were_told_outlives_answers_that_the_store_lost(
        acts in acts(&[Mood::Prompt, Mood::Slow, Mood::Away, Mood::Losing])
    ) {
        play(acts, true)?;
    }

    /// The same with somebody else who writes the same records. What was promised may be overtaken; the harness's rules,
    /// and that memory and store agree in the end, hold.
    #[test]
    fn whoever_else_writes_nobody_is_told_what_is_not_stored(
        acts in acts(&[Mood::Prompt, Mood::Slow, Mood::Away, Mood::Contended])
    ) {
        play(acts, false)?;
    }
}
