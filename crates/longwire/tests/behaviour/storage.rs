//! A disk that is full: pushes are refused, what is stored is delivered.

use crate::support::{Start, TestServer, push_body};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Pushes are refused as full, and a device still gets what is stored.
fn refuses_and_delivers(server: &TestServer, device: &mut crate::support::TestDevice, stored: &[String]) {
    let refused = server.api.push_text(json!("all"), "too much");
    assert_eq!((refused.status, refused.code()), (503, "storage_full"), "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    device.connect();
    for text in stored {
        device.expect_text(text);
    }
    device.expect_nothing();
}

#[test]
fn below_the_reserve_pushes_are_refused_while_deliveries_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d1");
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "stored").message_id();
    assert!(server.terminate().success());
    // More than any disk has.
    let reserve = format!("storage.reserve={}", 1_u64 << 50);
    let server = Start::default().folder(folder.path()).arg("--set").arg(&reserve).start();
    device.to = server.device;
    refuses_and_delivers(&server, &mut device, &["stored".to_owned()]);
    server.await_count(&message, "delivered", 1);
}

/// A small file system, gone when dropped.
struct SmallDisk {
    folder: PathBuf,
    _own: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` when this process may not mount.
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let own = tempfile::tempdir().unwrap();
        let folder = own.path().join("disk");
        fs::create_dir(&folder).unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        mount.is_ok_and(|output| output.status.success()).then_some(SmallDisk { folder, _own: own })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: the server may still be ending.
        Command::new("umount").arg("--lazy").arg(&self.folder).status().ok();
    }
}

/// Fills the disk with a file, so that `free` bytes are left.
fn fill(folder: &Path, free: u64) -> PathBuf {
    let file = folder.join("filler");
    let stat = rustix::fs::statvfs(folder).unwrap();
    let fill = (stat.f_bavail * stat.f_frsize).saturating_sub(free);
    fs::write(&file, vec![7; fill as usize]).unwrap();
    file
}

#[test]
fn a_disk_that_fills_up_heals_without_a_restart() {
    let Some(disk) = SmallDisk::mount(192 << 20) else {
        eprintln!("not allowed to mount a small disk here; the test with a large reserve stands in");
        return;
    };
    let data = disk.folder.join("data");
    let server = Start::default().folder(&data).arg("--set").arg("storage.reserve=33554432").start();
    let mut device = server.device("d1");
    let whom = json!({ "registration_id": ["d1"] });
    server.api.push_text(whom.clone(), "before").message_id();
    let filler = fill(&disk.folder, 8 << 20);
    // The free space is looked at now and then, not at every push.
    let mut stored = vec!["before".to_owned()];
    let refused = crate::support::until(crate::support::PATIENCE, || {
        let text = format!("while filling {}", stored.len());
        let answer = server.api.post("/v1/push", &push_body(whom.clone(), &text, None));
        if answer.status == 202 {
            stored.push(text);
        }
        answer.status == 503
    });
    assert!(refused, "nothing is refused on a full disk");
    refuses_and_delivers(&server, &mut device, &stored);
    fs::remove_file(filler).unwrap();
    let mut text = String::new();
    let healed = crate::support::until(crate::support::PATIENCE, || {
        text = "after".to_owned();
        server.api.post("/v1/push", &push_body(whom.clone(), &text, None)).status == 202
    });
    assert!(healed, "pushes stay refused after space came back");
    device.expect_text("after");
}
