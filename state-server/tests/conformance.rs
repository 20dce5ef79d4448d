//! The conformance suite on every store: as it is, and over gRPC.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;

use tandem_state_client::{RemoteStore, Store, conformance};
use tandem_state_server::StateServer;
use tandem_wire::redact::Secret;
use tandem_wire::units::Wall;

fn now() -> Wall {
    Wall::from_secs(1_795_000_000)
}

fn open(folder: &tempfile::TempDir) -> Arc<StateServer> {
    StateServer::open(&folder.path().join("state.redb"), conformance::POP, now).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_passes_the_suite_in_process() {
    let folder = tempfile::tempdir().unwrap();
    conformance::every_check(open(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_passes_the_suite_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    over_grpc(open(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_etcd_passes_the_suite_in_process() {
    let Some(cluster) = support::Cluster::start(1) else { return };
    conformance::every_check(cluster.server().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_three_nodes_of_etcd_passes_the_suite_over_grpc() {
    let Some(cluster) = support::Cluster::start(3) else { return };
    over_grpc(cluster.server().await).await;
}

async fn over_grpc(store: Arc<StateServer>) {
    let secret = Secret::new(vec![7; 32]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn({
        let secret = secret.clone();
        async move { tandem_state_client::grpc::serve(listener, store, &secret, async { _ = stopped.await }).await }
    });
    let remote: Arc<dyn Store> = Arc::new(RemoteStore::new(&endpoint, &secret).unwrap());
    conformance::every_check(Arc::clone(&remote)).await;
    drop(remote);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}
