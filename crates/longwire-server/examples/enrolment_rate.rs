//! Measures how fast devices that name themselves are registered: `enrolment_rate [folder] [devices] [batch]`.
//!
//! Registry and profiles as a storm of new clients uses them: one transaction and one commit a batch, one batch after the other.
#![allow(clippy::print_stdout)]

use longwire_server::domain::{AppKey, AppSecret, DeviceName, WallMs};
use longwire_server::store::messages::MessageStore;
use longwire_server::store::port::StoreOptions;
use longwire_server::store::registry::{Enrolled, Registry};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().map_or_else(|| std::env::temp_dir().join("enrolment"), PathBuf::from);
    let number = |at: usize, otherwise: usize| {
        arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let (devices, batch) = (number(1, 15_000), number(2, 2_000));
    std::fs::create_dir_all(&folder)?;
    let (committed, _none) = mpsc::channel(1);
    let options = StoreOptions {
        folder: folder.join("messages"),
        reserve_bytes: 0,
        retention_ms: 86_400_000,
        story_ms: 0,
        clock: Arc::new(|| WallMs(1_800_000_000_000)),
    };
    let store = MessageStore::open(options, committed)?;
    let registry = Registry::open(&format!("sqlite:{}", folder.join("registry.db").display())).await?;
    let key = AppKey::parse(&format!("run-{}", std::process::id()))?;
    let app = registry.create_app(&key, AppSecret::presented("secret").hash(), false).await?;
    let names: Vec<DeviceName> = (0..devices)
        .map(|number| DeviceName::parse("name", &format!("device-{number}")))
        .collect::<Result<_, _>>()?;
    let (begun, mut in_registry) = (Instant::now(), 0.0);
    for names in names.chunks(batch.max(1)) {
        let at = Instant::now();
        let enrolled = registry.enrol(&[(app.id, names.to_vec())], devices as u64).await?;
        in_registry += at.elapsed().as_secs_f64();
        let made = enrolled.into_iter().flatten().filter_map(|enrolled| match enrolled {
            Enrolled::Made(device) => Some(device),
            Enrolled::Known(_) | Enrolled::Full => None,
        });
        store.project(made.collect()).await?;
    }
    let total = begun.elapsed().as_secs_f64();
    println!(
        "{devices} devices in batches of {batch}: {total:.3} s, of it {in_registry:.3} s in the registry"
    );
    store.close().await;
    registry.close().await;
    Ok(())
}
