//! A disk that fills up under the engine, without a reserve that would have refused pushes before.
//!
//! The test mounts a small file system of its own: as root, or else in a user namespace that it starts itself in.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_server::domain::ClientId;
use longwire_server::store::port::{Accepted, Destination, StoreError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use store_stage::{APP, Stage};

const DISK_BYTES: u64 = 192 << 20;
/// Set for the run in a namespace.
const INSIDE: &str = "LONGWIRE_TEST_INSIDE_NAMESPACE";

/// A small file system, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Result<SmallDisk, String> {
        let size = format!("size={DISK_BYTES}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        match mount {
            Ok(output) if output.status.success() => Ok(SmallDisk(folder.to_owned())),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Leaves so many bytes free.
    fn fill(&self, free: u64) -> PathBuf {
        let file = self.0.join("filler");
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let fill = (stat.f_bavail * stat.f_frsize).saturating_sub(free);
        std::fs::write(&file, vec![7; fill as usize]).unwrap();
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: after a failed test the store's threads may still hold files.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// This test once more, where it may mount.
fn inside_namespace(test: &str, refused: &str) {
    let advice =
        "run the tests as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)";
    assert!(std::env::var_os(INSIDE).is_none(), "cannot mount a small disk: {refused}; {advice}");
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(this).args(["--exact", test]).env(INSIDE, "1");
    let output = command.output().unwrap_or_else(|error| panic!("{refused}; unshare: {error}; {advice}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{refused}; {advice}\n{said}");
}

/// Pushes until the store fails; what was acknowledged, and the failure.
async fn push_until_it_fails(stage: &Stage) -> (Vec<Accepted>, StoreError) {
    let body = vec![5; 10 * 1024];
    let mut accepted = Vec::new();
    for number in 0..DISK_BYTES / body.len() as u64 {
        let to = Destination::Mailboxes(vec![ClientId(number + 1)]);
        match stage.try_push(to, 60_000, &body).await {
            Ok(message) => accepted.push(message),
            Err(error) => return (accepted, error),
        }
    }
    panic!("{} messages on a disk that is full", accepted.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_meets_a_full_disk_refuses_everything_and_loses_nothing() {
    let own = tempfile::tempdir().unwrap();
    let disk = match SmallDisk::mount(own.path()) {
        Ok(disk) => disk,
        Err(refused) => {
            let test = "an_engine_that_meets_a_full_disk_refuses_everything_and_loses_nothing";
            return inside_namespace(test, &refused);
        }
    };
    let folder = disk.0.join("store");
    let mut stage = Stage::open(&folder);
    let early = stage.to(1).await;
    let filler = disk.fill(4 << 20);
    let (mut accepted, error) = push_until_it_fails(&stage).await;
    accepted.push(early);
    assert!(accepted.len() > 100, "there was room for more than {}", accepted.len());
    assert!(matches!(error, StoreError::Unknown(_) | StoreError::Unavailable(_)), "{error:?}");
    // From here on nothing is taken, also when there is room again: what the engine holds is not known.
    assert!(stage.store.usable().is_err());
    std::fs::remove_file(filler).unwrap();
    let next = stage.try_push(Destination::Log(Arc::default()), 60_000, b"more").await.unwrap_err();
    assert!(matches!(next, StoreError::Unavailable(_)), "{next:?}");
    // Reads go on.
    for message in [&accepted[0], &accepted[accepted.len() - 1]] {
        let found = stage.store.message(APP, message.message).await.unwrap();
        assert_eq!(found.expect("an acknowledged message").record, message.record);
    }
    // A restart mends it, and all that was acknowledged is there.
    stage.reopen(&folder).await;
    for message in &accepted {
        let found = stage.store.message(APP, message.message).await.unwrap();
        assert_eq!(found.expect("an acknowledged message").record, message.record);
    }
    stage.store.usable().unwrap();
    stage.to(1).await;
    stage.store.close().await;
}
