//! A relay's load on the wire: the stream that stays open, at both of its ends.
//!
//! Decides how long to wait before a server that was away is told again. Each server has a stream of its own, so that each
//! knows the whole fleet, and one that is away or hangs holds nobody up. At either end only the latest report is kept.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Status, Streaming};

use super::status::{from_status, to_status};
use super::{convert, proto, remote::Client};
use crate::{Reports, Store, StoreError, limits};

/// Tells one server for as long as somebody reports.
pub(super) async fn tell(mut server: Client, reports: Reports) {
    let mut wait = limits::LOAD_RETRY;
    while reports.has_changed().is_ok() {
        let began = tokio::time::Instant::now();
        // Begins with what stands there now.
        let latest = WatchStream::new(reports.clone()).filter_map(|report| report.map(convert::report_to));
        // It is answered when it is over: the reports end, or the server does.
        if let Err(status) = server.report_load(latest).await {
            let error = from_status(&status);
            tracing::debug!(%error, "a state server is not told how loaded we are");
        }
        if began.elapsed() > limits::LOAD_RETRY_MAX {
            wait = limits::LOAD_RETRY;
        }
        let mut ended = reports.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = async { while ended.changed().await.is_ok() {} } => return,
        }
        wait = (wait * 2).min(limits::LOAD_RETRY_MAX);
    }
}

/// Hears one relay until it ends, says what cannot be read, or we end.
pub(super) async fn hear<S: Store + ?Sized>(
    store: Arc<S>,
    mut reports: Streaming<proto::LoadReport>,
    mut closing: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) -> Result<(), Status> {
    let (latest, taken) = watch::channel(None);
    let hearing = async {
        let latest = latest;
        while let Some(report) = reports.next().await {
            latest.send_replace(Some(convert::report_from(&report?).map_err(|error| to_status(&error))?));
        }
        Ok(())
    };
    let away = StoreError::Away { retry_after_ms: limits::RETRY_AFTER_MS };
    let heard = async {
        // The store is done when the one who hears is.
        let (heard, ()) = tokio::join!(hearing, store.report_load(taken));
        heard
    };
    tokio::select! {
        heard = heard => heard,
        _ = closing.changed() => Err(to_status(&away)),
    }
}
