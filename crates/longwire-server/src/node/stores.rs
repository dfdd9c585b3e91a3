//! The stores of a node, opened as a start opens them.

use super::clock::wall_clock;
use super::config::Config;
use super::start::ServeError;
use crate::gate::Clock;
use crate::store::messages::{MessageStore, OpenError};
use crate::store::port::{Committed, StoreError, StoreOptions};
use crate::store::registry::{Registry, RegistryOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use tokio::sync::mpsc;

/// Opens the message store and the registry; makes what is missing.
pub(super) async fn open(
    config: &Config,
    clock: Clock,
    committed: mpsc::Sender<Committed>,
) -> Result<(MessageStore, Registry), ServeError> {
    make_folder(&config.data_dir)?;
    let options = StoreOptions {
        folder: config.data_dir.join("messages"),
        reserve_bytes: config.storage_reserve_bytes,
        retention_ms: u64::try_from(config.storage_retention.as_millis()).unwrap_or(u64::MAX),
        story_ms: u64::from(config.story_days) * 86_400_000,
        clock,
    };
    let store = tokio::task::spawn_blocking(move || MessageStore::open(options, committed))
        .await
        .map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
    store.check_books_every(config.storage_books_check);
    let registry = Registry::open_on(&registry_options(config)).await?;
    Ok((store, registry))
}

/// Opens both stores as a start would, with every check that it makes, and closes them again.
///
/// # Errors
/// What a start would fail with.
pub async fn try_open(config: &Config) -> Result<(), ServeError> {
    // Nothing is pushed, so nothing is committed.
    let (committed, _none) = mpsc::channel(1);
    let (store, registry) = open(config, wall_clock(), committed).await?;
    store.close().await;
    registry.close().await;
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), OpenError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|cause| {
        OpenError::NotWritable { path: folder.display().to_string(), cause: cause.to_string() }
    })
}

fn registry_options(config: &Config) -> RegistryOptions {
    let mut options = config.registry.clone();
    if options.url.is_empty() {
        options.url = format!("sqlite:{}", config.data_dir.join("registry.db").display());
    }
    options
}
