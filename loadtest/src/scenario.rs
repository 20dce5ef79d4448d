//! A whole run: devices, calls, the time in which they are watched, and the end.
//!
//! Decides the order. Leaves one call to [`crate::call`], and what it all means to [`crate::report`].

use std::sync::Arc;
use std::time::Duration;

use tandem_client::{CallId, Device};
use tandem_wire::units::Mono;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::call::{Outcome, Part, Stage, Standing, set_up};
use crate::clock::now;
use crate::device::World;
use crate::fault::{Doer, Done};
use crate::hold::Hold;
use crate::limits;
use crate::panel::Panel;
use crate::plan::Plan;
use crate::random::Seeded;
use crate::stall::{Lookout, Stalls};
use crate::stream::Streams;
use crate::watch::{Busy, Registry, Watch, Watched};

/// How often the fault panel is asked which processes there are.
const PANEL_EVERY: Duration = Duration::from_millis(250);

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The system has no thread for us.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The fault panel that was named does not answer.
    #[error("{0}")]
    Panel(String),
    /// Not one device could be started.
    #[error("no device could be started: {0}")]
    Devices(String),
}

/// What was seen.
#[derive(Debug)]
pub struct Measured {
    /// When all calls stood that ever did.
    pub stood: Mono,
    /// When they were told to end.
    pub stopped: Mono,
    /// Packets sent between these two.
    pub sent: u64,
    /// What became of each call, in the order of the plan.
    pub outcomes: Vec<Outcome>,
    /// What was done meanwhile, in order of time.
    pub faults: Vec<Done>,
    /// When this process itself did not run.
    pub stalls: Arc<Stalls>,
    /// What other processes took, and waited for.
    pub watched: Vec<Watched>,
    /// How busy all cores of this machine were, in percent.
    pub machine_percent: f64,
}

/// Does all of it. `say` is told how far it has come, and `stand` which calls do when all do.
///
/// # Errors
/// [`Failure`]: there is nothing to report.
pub async fn run(
    plan: &Plan,
    world: World,
    registry: Arc<Registry>,
    panel: Option<Panel>,
    say: impl Fn(&str),
    stand: impl Fn(&[CallId]),
) -> Result<Measured, Failure> {
    let mut beside = JoinSet::new();
    if let Some(panel) = panel.clone() {
        registry.told(&panel.processes().await.map_err(Failure::Panel)?);
        let registry = Arc::clone(&registry);
        beside.spawn(async move {
            loop {
                sleep(PANEL_EVERY).await;
                // What cannot be asked now is as it was.
                if let Ok(processes) = panel.processes().await {
                    registry.told(&processes);
                }
            }
        });
    }
    let stalls = Arc::<Stalls>::default();
    let _lookout = Lookout::start(Arc::clone(&stalls))?;
    let stage = Arc::new(Stage {
        streams: Arc::new(Streams::start(plan.interval(), Arc::clone(&stalls))?),
        interval: plan.interval(),
        packet_bytes: plan.packet_bytes,
        seed: plan.seed,
        silence: plan.silence,
    });
    let pairs = devices(plan, &Arc::new(world)).await?;
    say(&format!("{} devices are there", 2 * pairs.iter().filter(|pair| pair.is_ok()).count()));

    let (part, parts) = watch::channel(Part::Placing);
    let (stands, mut standing) = mpsc::channel(plan.calls);
    let start = Instant::now();
    let mut calls = JoinSet::new();
    let order = Seeded::new(plan.seed).order(plan.calls);
    let mut pairs: Vec<Option<Pair>> = pairs.into_iter().map(Some).collect();
    let held = pairs.split_off(plan.calls.min(pairs.len()));
    for (place, nth) in order.into_iter().enumerate() {
        let Some(pair) = pairs.get_mut(nth).and_then(Option::take) else { continue };
        let due = start + plan.placed_after(place);
        let (stage, stands, parts) = (Arc::clone(&stage), stands.clone(), parts.clone());
        calls.spawn(async move {
            let [caller, callee] = match pair {
                Ok(pair) => pair,
                Err(error) => {
                    let _ = stands.send(None).await;
                    return Outcome::never(nth, None, error);
                }
            };
            sleep_until(due).await;
            let call = Box::pin(set_up(nth, [&caller, &callee], &stage, None)).await;
            let _ = stands.send(call.as_ref().ok().map(Standing::id)).await;
            // Who counts goes on when all have said it.
            drop(stands);
            match call {
                Ok(call) => call.run(parts).await,
                Err(outcome) => outcome,
            }
        });
    }
    drop(stands);
    let mut good = Vec::new();
    while let Some(stands) = standing.recv().await {
        good.extend(stands);
    }
    stand(&good);
    say(&format!("{} of {} calls stand", good.len(), plan.calls));
    let hold = Arc::new(Hold::new(plan.held));
    for (place, pair) in held.into_iter().flatten().enumerate() {
        let (nth, stage, hold, parts) = (plan.calls + place, Arc::clone(&stage), Arc::clone(&hold), parts.clone());
        let due = Instant::now() + limits::HELD_EVERY.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX));
        calls.spawn(async move {
            let [caller, callee] = match pair {
                Ok(pair) => pair,
                Err(error) => return Outcome::never(nth, None, error),
            };
            sleep_until(due).await;
            match Box::pin(set_up(nth, [&caller, &callee], &stage, Some(&hold))).await {
                Ok(call) => call.run(parts).await,
                Err(outcome) => outcome,
            }
        });
    }

    stalls.begin();
    let _ = part.send(Part::Watched);
    let (stood, before) = (now(), stage.streams.sent());
    let watching = Watch::start(Arc::clone(&registry))?;
    let busy = Busy::now();
    let doing = tokio::spawn(Doer { registry, panel, hold }.run(plan.faults.clone()));
    sleep(plan.duration.to_std()).await;
    let (stopped, sent) = (now(), stage.streams.sent() - before);
    let machine_percent = busy.percent_since();
    let watched = watching.stop();
    let _ = part.send(Part::Over);
    let mut outcomes = Vec::new();
    while let Some(ended) = calls.join_next().await {
        outcomes.extend(ended);
    }
    outcomes.sort_by_key(|outcome| outcome.nth);
    let faults = doing.await.unwrap_or_default();
    Ok(Measured { stood, stopped, sent, outcomes, faults, stalls, watched, machine_percent })
}

type Pair = Result<[Device; 2], String>;

/// The devices of each call, or why there are none.
async fn devices(plan: &Plan, world: &Arc<World>) -> Result<Vec<Pair>, Failure> {
    let at_once = Arc::new(Semaphore::new(limits::STARTS_AT_ONCE));
    let starting: Vec<_> = (0..plan.calls + plan.held)
        .map(|nth| {
            let (world, at_once) = (Arc::clone(world), Arc::clone(&at_once));
            tokio::spawn(async move {
                // Nobody closes it.
                let _turn = at_once.acquire().await;
                let caller = Box::pin(world.device(2 * nth)).await.map_err(|error| format!("caller: {error}"))?;
                let callee = Box::pin(world.device(2 * nth + 1)).await.map_err(|error| format!("callee: {error}"))?;
                Ok([caller, callee])
            })
        })
        .collect();
    let mut pairs: Vec<Pair> = Vec::new();
    for pair in starting {
        pairs.push(pair.await.unwrap_or_else(|_| Err("the task that started it ended".to_owned())));
    }
    match pairs.iter().find_map(|pair| pair.as_ref().err()) {
        Some(error) if pairs.iter().all(Result::is_err) => Err(Failure::Devices(error.clone())),
        _ => Ok(pairs),
    }
}
