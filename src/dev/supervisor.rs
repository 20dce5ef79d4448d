//! All children of `tandem dev`, and what can be done to them.
//!
//! Decides what an order to "all" means. Leaves each child to its keeper.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::keeper::{Keeper, Order, Recipe, Return, Table};
use super::table::{Kind, Name, Process, State};
use crate::limits;

/// The children. Dropping it kills them.
pub(crate) struct Supervisor {
    table: Arc<Table>,
    orders: Vec<(Name, mpsc::Sender<Order>)>,
    keepers: JoinSet<()>,
}

/// What an order was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// There is no process to pause or resume.
    #[error("the process does not run now")]
    NotRunning,
    /// Its keeper is gone: the supervisor is ending.
    #[error("the supervisor is ending")]
    Ending,
}

/// A handle that gives orders.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    table: Arc<Table>,
    orders: Vec<(Name, mpsc::Sender<Order>)>,
}

impl Supervisor {
    /// Starts the children, side by side. Must be called on the thread that lives as long as the process: they die with it.
    pub(crate) fn start(recipes: Vec<Recipe>) -> Self {
        let table = Arc::new(watch::Sender::new(recipes.iter().map(|recipe| Process::new(recipe.name)).collect()));
        let mut keepers = JoinSet::new();
        let keep = |recipe: Recipe| {
            let (sender, orders) = mpsc::channel(limits::ORDERS);
            let name = recipe.name;
            keepers.spawn(Keeper { recipe, table: Arc::clone(&table), orders }.run());
            (name, sender)
        };
        let orders = recipes.into_iter().map(keep).collect();
        Self { table, orders, keepers }
    }

    /// A handle that gives orders.
    pub(crate) fn orders(&self) -> Orders {
        Orders { table: Arc::clone(&self.table), orders: self.orders.clone() }
    }

    /// Waits until all serve.
    ///
    /// # Errors
    /// The child that ended before it ever served; it has said why on stderr.
    pub(crate) async fn ready(&self) -> Result<Vec<Process>, Name> {
        let mut table = self.table.subscribe();
        let settled = |table: &Vec<Process>| {
            table.iter().any(|process| process.failed) || table.iter().all(|process| process.state == State::Ready)
        };
        // Its sender is ours.
        let Ok(table) = table.wait_for(settled).await else { return Err(Name::only(Kind::Relay)) };
        match table.iter().find(|process| process.failed) {
            Some(process) => Err(process.name),
            None => Ok(table.clone()),
        }
    }

    /// Ends them all, side by side.
    pub(crate) async fn stop(mut self) {
        for (_, orders) in &self.orders {
            // A keeper that is gone has no child.
            let _ = orders.send(Order::Stop).await;
        }
        while self.keepers.join_next().await.is_some() {}
    }
}

impl Orders {
    /// All children as they are now.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.table.borrow().clone()
    }

    /// Kills one; gives the pid that was killed, if one was there.
    pub(crate) async fn kill(&self, name: Name, after: Duration, wipe: bool) -> Result<Option<u32>, OrderError> {
        self.order_kill(name, Return { after, wipe, behind_start: None }).await
    }

    /// Kills all at once. The relays come back after a state server does. Gives the first relay's pid.
    pub(crate) async fn kill_all(&self, after: Duration, wipe: bool) -> Result<Option<u32>, OrderError> {
        let of_store = |process: &Process| (process.name.kind == Kind::StateServer).then_some(process.starts);
        let starts = self.processes().iter().filter_map(of_store).max();
        let mut asked = JoinSet::new();
        for (name, _) in &self.orders {
            let (name, kind) = (*name, name.kind);
            let behind_start = starts.filter(|_| kind == Kind::Relay);
            let back = Return { after, wipe: wipe && kind == Kind::StateServer, behind_start };
            let orders = self.clone();
            // Asked at the same time, so that none lives on without the others.
            asked.spawn(async move { (kind, orders.order_kill(name, back).await) });
        }
        let mut relay = None;
        while let Some(answered) = asked.join_next().await {
            let (kind, pid) = answered.map_err(|_| OrderError::Ending)?;
            let pid = pid?;
            if kind == Kind::Relay {
                relay = relay.or(pid);
            }
        }
        Ok(relay)
    }

    /// Stops one with SIGSTOP.
    pub(crate) async fn pause(&self, name: Name) -> Result<(), OrderError> {
        self.order(name, Order::Pause).await?.then_some(()).ok_or(OrderError::NotRunning)
    }

    /// Lets it go on.
    pub(crate) async fn resume(&self, name: Name) -> Result<(), OrderError> {
        self.order(name, Order::Resume).await?.then_some(()).ok_or(OrderError::NotRunning)
    }

    async fn order_kill(&self, name: Name, back: Return) -> Result<Option<u32>, OrderError> {
        self.order(name, |answer| Order::Kill(back, answer)).await
    }

    async fn order<T>(&self, name: Name, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, OrderError> {
        let (_, orders) = self.orders.iter().find(|(of, _)| *of == name).ok_or(OrderError::Ending)?;
        let (answer, answered) = oneshot::channel();
        orders.send(order(answer)).await.map_err(|_| OrderError::Ending)?;
        answered.await.map_err(|_| OrderError::Ending)
    }
}
