//! The report: everything that was measured, in the form of docs/loadtest.md.
//!
//! Decides the figures, and what stands beside a gap: the fault that it is put down to, the generator's own stall, and who waited
//! for a core. Leaves the words to [`crate::text`].

use serde::Serialize;
use tandem_wire::units::Mono;

use crate::budget::{Budget, Figure};
use crate::call::{Lost, Outcome};
use crate::clock::Ms;
use crate::meter::{Flow, Gap};
use crate::packet::Side;
use crate::plan::Plan;
use crate::scenario::Measured;
use crate::stats::Spread;
use crate::timeline::blamed;
use crate::verdict::{Figures, Line, judge};
use crate::watch::Watched;

/// The form that the report has.
pub const SCHEMA: u32 = 1;

/// A whole report. Times are milliseconds after the calls stood.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether every figure is within its budget.
    pub passed: bool,
    /// What was asked for.
    pub plan: Plan,
    /// How long the calls were watched.
    pub watched_ms: Ms,
    /// Each budget, and what was measured.
    pub verdict: Vec<Line>,
    /// All figures, also those without a budget.
    pub figures: Figures,
    /// How many calls there were to be, and stood.
    pub calls: Calls,
    /// All packets of all calls.
    pub packets: Packets,
    /// One-way delays of all packets since all calls stood.
    pub delay_ms: Spread,
    /// The longest gap of each call that ended after all calls stood.
    pub gap_ms: Spread,
    /// What was done meanwhile.
    pub faults: Vec<FaultRow>,
    /// This process.
    pub generator: Generator,
    /// The processes that were watched, this one among them.
    pub processes: Vec<Watched>,
    /// Every gap that is worth a line.
    pub gaps: Vec<GapRow>,
    /// Every call.
    pub each: Vec<CallRow>,
}

/// How many calls there were.
#[derive(Debug, Clone, Serialize)]
pub struct Calls {
    /// To be placed.
    pub planned: usize,
    /// Stood once.
    pub stood: usize,
    /// Lost, in whichever way.
    pub lost: usize,
    /// From being placed until packets could go both ways.
    pub set_up_ms: Spread,
    /// Of those that were held: from when they were to be accepted.
    pub held_ms: Spread,
}

/// What became of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// Sent.
    pub sent: u64,
    /// Came, each counted once.
    pub received: u64,
    /// Did not come.
    pub lost: u64,
    /// Came once more.
    pub duplicates: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Came otherwise than they were sent.
    pub corrupt: u64,
    /// Came whole, with a number that was never sent.
    pub invented: u64,
    /// Came into another call, or back.
    pub leaked: u64,
    /// Of those lost: the own socket did not take them.
    pub not_sent: u64,
    /// Delays and gaps that were not kept.
    pub not_kept: u64,
}

/// A fault, and what is put down to it.
#[derive(Debug, Clone, Serialize)]
pub struct FaultRow {
    /// What it is called.
    pub name: String,
    /// When it was begun.
    pub at_ms: Ms,
    /// How long doing it took.
    pub took_ms: Ms,
    /// Why it could not be done.
    pub failed: Option<String>,
    /// Calls with a gap of over 40 ms that is put down to it.
    pub calls: usize,
    /// The longest such gap of each of these calls.
    pub gap_ms: Spread,
}

/// This process.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// The longest time in which one of its threads did not run though it should have.
    pub stall_ms_max: Ms,
    /// When that was over.
    pub stall_at_ms: Option<Ms>,
    /// How many there were over 5 ms.
    pub stalls: u64,
    /// How busy all cores of this machine were while the calls stood, with whatever else runs on it; in percent.
    pub machine_percent: f64,
    /// CPU for each packet, sent and received, while the calls stood; in microseconds.
    pub cpu_us_per_packet: f64,
}

/// A gap of over 40 ms.
#[derive(Debug, Clone, Serialize)]
pub struct GapRow {
    /// Of which call, in the order of the plan.
    pub nth: usize,
    /// Who heard nothing.
    pub side: Side,
    /// When the last packet before it came.
    pub at_ms: Ms,
    /// Until the next one.
    pub ms: Ms,
    /// Packets between the two that had not come.
    pub missing: u32,
    /// The fault it is put down to: its place in `faults`.
    pub fault: Option<usize>,
    /// How much of it was there when the packets were sent.
    pub sent_late_ms: Ms,
    /// The generator's own longest stall beside it.
    pub stall_ms: Ms,
    /// Who else waited for a core beside it, and how long at most.
    pub waits: Vec<Wait>,
}

/// A process that waited for a core.
#[derive(Debug, Clone, Serialize)]
pub struct Wait {
    /// Which.
    pub process: String,
    /// The longest of one thread within one look.
    pub ms: Ms,
}

/// One call.
#[derive(Debug, Clone, Serialize)]
pub struct CallRow {
    /// In the order of the plan.
    pub nth: usize,
    /// Its id, to ask an operator's tools with.
    pub id: Option<String>,
    /// From being placed until packets could go both ways.
    pub set_up_ms: Option<Ms>,
    /// Why it is lost.
    pub lost: Option<String>,
    /// What each side received.
    pub received: Vec<FlowRow>,
}

/// What one side of a call received.
#[derive(Debug, Clone, Serialize)]
pub struct FlowRow {
    /// Who.
    pub side: Side,
    /// Its packets.
    #[serde(flatten)]
    pub packets: Packets,
    /// One-way delays.
    pub delay_ms: Spread,
    /// Its longest gap.
    pub gap_ms_max: Ms,
}

impl Packets {
    fn of(flow: &Flow) -> Self {
        Self {
            sent: flow.sent.into(),
            received: flow.received.into(),
            lost: flow.lost.into(),
            duplicates: flow.duplicates,
            reordered: flow.reordered,
            corrupt: flow.corrupt,
            invented: flow.invented,
            leaked: flow.leaked,
            not_sent: 0,
            not_kept: flow.delays_dropped + flow.gaps_dropped,
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.invented += other.invented;
        self.leaked += other.leaked;
        self.not_sent += other.not_sent;
        self.not_kept += other.not_kept;
    }
}

fn why(lost: &Lost, stood: Mono) -> String {
    match lost {
        Lost::SetUp(why) => format!("not set up: {why}"),
        Lost::Ended { told, reason, at } => {
            format!("the {} was told {reason} at {}", side(*told), Ms::between(stood, *at))
        }
        Lost::Silent(of) => format!("the {} heard nothing any more", side(*of)),
    }
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Caller => "caller",
        Side::Callee => "callee",
    }
}

/// What stands beside gaps.
struct Beside<'a> {
    measured: &'a Measured,
    faults: Vec<Mono>,
}

impl Beside<'_> {
    fn row(&self, nth: usize, side: Side, gap: &Gap) -> GapRow {
        let (from, to) = (gap.start, gap.end());
        let waits = self.measured.watched.iter().map(|one| (one, one.beside(from, to)));
        let waits = waits.filter(|(_, wait)| wait.as_nanos() > 0);
        GapRow {
            nth,
            side,
            at_ms: Ms::between(self.measured.stood, from),
            ms: gap.length.into(),
            missing: gap.missing,
            fault: blamed(&self.faults, gap),
            sent_late_ms: gap.sent_late.into(),
            stall_ms: self.measured.stalls.beside(from, to).into(),
            waits: waits.map(|(one, wait)| Wait { process: one.name.clone(), ms: wait.into() }).collect(),
        }
    }
}

impl Report {
    /// Makes the report of a run.
    #[must_use]
    pub fn of(plan: &Plan, mut measured: Measured, budget: &Budget) -> Self {
        let outcomes = std::mem::take(&mut measured.outcomes);
        let beside = Beside { faults: measured.faults.iter().map(|fault| fault.at).collect(), measured: &measured };
        let (mut each, mut gaps, mut delays, mut packets) = (Vec::new(), Vec::new(), Vec::new(), Packets::default());
        for outcome in outcomes {
            let Outcome { nth, id, set_up, lost, flows, not_sent } = outcome;
            packets.not_sent += not_sent;
            let mut received = Vec::new();
            for (side, mut flow) in flows {
                let of = Packets::of(&flow);
                packets.add(&of);
                gaps.extend(flow.gaps.iter().map(|gap| beside.row(nth, side, gap)));
                received.push(FlowRow {
                    side,
                    packets: of,
                    delay_ms: Spread::of_micros(&mut flow.delays_us),
                    gap_ms_max: flow.longest.map_or(Ms(0.0), |gap| gap.length.into()),
                });
                delays.append(&mut flow.delays_us);
            }
            let lost = lost.map(|lost| why(&lost, measured.stood));
            let id = id.map(|id| id.to_string());
            each.push(CallRow { nth, id, set_up_ms: set_up.map(Ms::from), lost, received });
        }
        gaps.sort_by(|one: &GapRow, other| one.at_ms.0.total_cmp(&other.at_ms.0));
        let longest = |row: &CallRow| row.received.iter().map(|flow| flow.gap_ms_max.0).fold(0.0, f64::max);
        let stood: Vec<&CallRow> = each.iter().filter(|row| !row.received.is_empty()).collect();
        let gap_ms = Spread::of(stood.iter().map(|row| longest(row)).collect());
        let planned = plan.calls + plan.held;
        let set_ups = |which: &dyn Fn(usize) -> bool| {
            let set_ups = each.iter().filter(|row| which(row.nth)).filter_map(|row| row.set_up_ms);
            Spread::of(set_ups.map(|ms| ms.0).collect())
        };
        let calls = Calls {
            planned,
            stood: stood.len(),
            lost: each.iter().filter(|row| row.lost.is_some()).count() + planned.saturating_sub(each.len()),
            set_up_ms: set_ups(&|nth| nth < plan.calls),
            held_ms: set_ups(&|nth| nth >= plan.calls),
        };
        let delay_ms = Spread::of_micros(&mut delays);
        let faults: Vec<FaultRow> = fault_rows(&measured, &gaps);
        let generator = generator(&measured);
        let figures = figures(&calls, &packets, &delay_ms, &gap_ms, &generator, &faults);
        let verdict = judge(&figures, budget);
        Self {
            schema: SCHEMA,
            passed: verdict.iter().all(|line| line.passed),
            plan: plan.clone(),
            watched_ms: Ms::between(measured.stood, measured.stopped),
            verdict,
            figures,
            calls,
            packets,
            delay_ms,
            gap_ms,
            faults,
            generator,
            processes: measured.watched,
            gaps,
            each,
        }
    }
}

fn fault_rows(measured: &Measured, gaps: &[GapRow]) -> Vec<FaultRow> {
    let row = |(index, done): (usize, &crate::fault::Done)| {
        let mut longest = std::collections::BTreeMap::new();
        for gap in gaps.iter().filter(|gap| gap.fault == Some(index)) {
            let most: &mut f64 = longest.entry(gap.nth).or_default();
            *most = most.max(gap.ms.0);
        }
        FaultRow {
            name: done.name.clone(),
            at_ms: Ms::between(measured.stood, done.at),
            took_ms: done.took.into(),
            failed: done.failed.clone(),
            calls: longest.len(),
            gap_ms: Spread::of(longest.into_values().collect()),
        }
    };
    measured.faults.iter().enumerate().map(row).collect()
}

fn generator(measured: &Measured) -> Generator {
    let longest = measured.stalls.longest();
    let cpu = measured.watched.iter().find(|one| one.name == crate::watch::SELF).map_or(0.0, |one| one.cpu_seconds);
    Generator {
        stall_ms_max: longest.map_or(Ms(0.0), |stall| stall.length.into()),
        stall_at_ms: longest.map(|stall| Ms::between(measured.stood, stall.end)),
        stalls: measured.stalls.noted(),
        machine_percent: measured.machine_percent,
        cpu_us_per_packet: (cpu * 1_000_000.0 / measured.sent.max(1) as f64 * 100.0).round() / 100.0,
    }
}

fn figures(
    calls: &Calls,
    packets: &Packets,
    delay_ms: &Spread,
    gap_ms: &Spread,
    generator: &Generator,
    faults: &[FaultRow],
) -> Figures {
    let count = |count: u64| count as f64;
    let failed = faults.iter().filter(|fault| fault.failed.is_some()).count();
    let mut figures: Figures = [
        (Figure::CallsLost, calls.lost as f64),
        (Figure::Leaked, count(packets.leaked)),
        (Figure::Corrupt, count(packets.corrupt + packets.invented)),
        (Figure::Duplicates, count(packets.duplicates)),
        (Figure::Reordered, count(packets.reordered)),
        (Figure::LostPackets, count(packets.lost)),
        (Figure::StallMsMax, generator.stall_ms_max.0),
        (Figure::FaultsFailed, failed as f64),
    ]
    .into();
    // Of nothing there is no percentile: a budget for one is not kept then.
    if packets.sent > 0 {
        figures.insert(Figure::LossPercent, 100.0 * count(packets.lost) / count(packets.sent));
    }
    for (spread, of) in [
        (gap_ms, [Some(Figure::GapMsP50), Some(Figure::GapMsP99), Some(Figure::GapMsMax)]),
        (delay_ms, [Some(Figure::DelayMsP50), Some(Figure::DelayMsP99), Some(Figure::DelayMsMax)]),
        (&calls.set_up_ms, [None, Some(Figure::SetUpMsP99), Some(Figure::SetUpMsMax)]),
    ] {
        let values = of.into_iter().zip([spread.p50, spread.p99, spread.max]);
        figures.extend(values.filter(|_| spread.count > 0).filter_map(|(figure, value)| Some((figure?, value))));
    }
    figures
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tandem_wire::units::Span;

    use super::*;
    use crate::fault::Done;
    use crate::stall::Stalls;

    fn at(ms: u64) -> Mono {
        Mono::default().after(Span::from_millis(ms))
    }

    fn gap(from: u64, to: u64) -> Gap {
        Gap { start: at(from), length: at(to).since(at(from)), missing: 3, sent_late: Span::ZERO }
    }

    fn flow(gaps: &[Gap]) -> Flow {
        let longest = gaps.iter().copied().max_by_key(|gap| gap.length).or(Some(gap(100, 120)));
        Flow {
            sent: 100,
            received: 97,
            lost: 3,
            delays_us: vec![1_000, 3_000],
            gaps: gaps.into(),
            longest,
            ..Flow::default()
        }
    }

    fn stands(nth: usize, flows: [Flow; 2], lost: Option<Lost>) -> Outcome {
        let [one, other] = flows;
        let flows = vec![(Side::Caller, one), (Side::Callee, other)];
        Outcome { nth, id: None, set_up: Some(Span::from_millis(10)), lost, flows, not_sent: 1 }
    }

    fn report(outcomes: Vec<Outcome>) -> Report {
        let stalls = Arc::<Stalls>::default();
        stalls.ran(at(5_000), at(5_030));
        let fault = |ms, failed: Option<&str>| Done {
            name: format!("fault at {ms}"),
            at: at(ms),
            took: Span::ZERO,
            failed: failed.map(str::to_owned),
        };
        let faults = vec![fault(2_000, None), fault(9_000, Some("nobody there")), fault(10_500, None)];
        let measured = Measured {
            stood: at(1_000),
            stopped: at(11_000),
            sent: 400,
            outcomes,
            faults,
            stalls,
            watched: Vec::new(),
            machine_percent: 12.5,
        };
        let faults = Vec::new();
        let (duration, ramp, silence) = (Span::from_secs(10), Span::ZERO, Span::from_secs(2));
        let plan = Plan { calls: 4, held: 0, duration, ramp, pps: 50, packet_bytes: 172, silence, seed: 1, faults };
        Report::of(&plan, measured, &crate::budget::named("relay-killed").unwrap())
    }

    #[test]
    fn every_way_to_lose_a_call_counts_and_also_one_that_nothing_is_known_of() {
        let ended = Lost::Ended { told: Side::Callee, reason: "Hangup".to_owned(), at: at(3_000) };
        let whole = || [flow(&[]), flow(&[])];
        let report = report(vec![
            stands(0, whole(), None),
            stands(1, whole(), Some(ended)),
            Outcome::never(2, None, "refused".to_owned()),
        ]);
        assert_eq!((report.calls.stood, report.calls.lost, report.figures[&Figure::CallsLost]), (2, 3, 3.0));
        let lost: Vec<Option<&str>> = report.each.iter().map(|call| call.lost.as_deref()).collect();
        assert_eq!(lost, [None, Some("the callee was told Hangup at 2000.0 ms"), Some("not set up: refused")]);
        assert!(!report.passed);
    }

    #[test]
    fn a_gap_is_reported_with_its_fault_and_the_stall_beside_it_and_a_call_by_its_longest() {
        let report = report(vec![
            stands(0, [flow(&[gap(1_990, 2_060), gap(4_990, 5_080)]), flow(&[gap(1_995, 2_050)])], None),
            stands(1, [flow(&[gap(1_980, 2_045)]), flow(&[])], None),
        ]);
        let rows: Vec<_> =
            report.gaps.iter().map(|gap| (gap.nth, gap.at_ms.0, gap.ms.0, gap.fault, gap.stall_ms.0)).collect();
        let expected = [
            (1, 980.0, 65.0, Some(0), 0.0),
            (0, 990.0, 70.0, Some(0), 0.0),
            (0, 995.0, 55.0, Some(0), 0.0),
            (0, 3_990.0, 90.0, Some(0), 30.0),
        ];
        assert_eq!(rows, expected);
        assert_eq!((report.gap_ms.p50, report.gap_ms.max, report.figures[&Figure::GapMsP99]), (65.0, 90.0, 90.0));
        let faults: Vec<_> = report.faults.iter().map(|fault| (fault.calls, fault.gap_ms.max)).collect();
        assert_eq!((faults, report.figures[&Figure::FaultsFailed]), (vec![(2, 90.0), (0, 0.0), (0, 0.0)], 1.0));
        assert_eq!((report.packets.sent, report.packets.lost, report.packets.not_sent), (400, 12, 2));
        assert_eq!((report.figures[&Figure::LossPercent], report.delay_ms.p50), (3.0, 1.0));
        let words = crate::text::text(&report);
        for said in
            ["NOT DONE: nobody there", "FAILED    gap_ms_p99 90 of at most 50", "longest   90.0 ms at 3990.0 ms"]
        {
            assert!(words.contains(said), "{words}");
        }
    }

    #[test]
    fn of_calls_that_never_stood_there_is_no_percentile_that_could_pass() {
        let report = report(Vec::new());
        assert!(!report.figures.contains_key(&Figure::GapMsP99) && !report.figures.contains_key(&Figure::LossPercent));
        assert!(report.verdict.iter().any(|line| line.figure == Figure::GapMsP99 && !line.passed));
        assert!(serde_json::to_value(&report).unwrap()["verdict"][4]["measured"].is_null());
    }
}
