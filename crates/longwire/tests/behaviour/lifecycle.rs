//! Start and stop, and data directories that cannot be used.

use crate::support::{PATIENCE, Seen, Start, TestServer};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn sigterm_tells_devices_and_ends_with_zero() {
    let mut server = TestServer::start();
    let mut devices: Vec<_> = (0..5).map(|number| server.device(&format!("d{number}"))).collect();
    devices.iter_mut().for_each(|device| drop(device.connect()));
    server.signal_terminate();
    for device in &mut devices {
        let mut told = false;
        loop {
            match device.next(PATIENCE) {
                Some(Seen::GoAway { .. }) => told = true,
                Some(Seen::Ended) => break,
                Some(_) => {}
                None => panic!("{} is neither told nor let go", device.name),
            }
        }
        assert!(told, "{} was let go without a word", device.name);
    }
    assert!(server.await_exit().success());
}

#[test]
fn what_was_accepted_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d1");
    server.api.push_text(json!({ "registration_id": ["d1"] }), "kept").message_id();
    server.api.push_text(json!("all"), "kept too").message_id();
    assert!(server.terminate().success());
    let server = TestServer::start_in(folder.path());
    device.to = server.device;
    device.connect();
    let mut texts = [device.expect_push(PATIENCE), device.expect_push(PATIENCE)]
        .map(|seen| seen.text().unwrap().to_owned());
    texts.sort();
    assert_eq!(texts, ["kept", "kept too"]);
    device.expect_nothing();
}

#[test]
fn a_second_server_in_the_same_data_directory_is_refused() {
    let mut server = TestServer::start();
    let (status, said) = Start::default().folder(server.folder()).must_fail();
    assert!(!status.success());
    assert!(said.contains(&*server.folder().to_string_lossy()) && said.contains("in use"), "{said}");
    assert!(server.lives());
    let mut device = server.device("d1");
    device.connect();
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let folder = file.join("data");
    let (status, said) = Start::default().folder(&folder).must_fail();
    assert!(!status.success());
    assert!(said.contains(&*file.to_string_lossy()), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_damaged_store_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    server.register("d1", None, &[]);
    for number in 0..20 {
        server.api.push_text(json!({ "registration_id": ["d1"] }), &number.to_string()).message_id();
    }
    assert!(server.terminate().success());
    let files = files_below(folder.path());
    assert!(!files.is_empty());
    for file in files {
        let length = fs::metadata(&file).unwrap().len() as usize;
        fs::write(&file, vec![0xA5; length.max(64)]).unwrap();
    }
    let (status, said) = Start::default().folder(folder.path()).must_fail();
    assert!(!status.success());
    assert!(said.contains(&*folder.path().to_string_lossy()), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !path.to_string_lossy().contains("lock") {
            files.push(path);
        }
    }
    files
}

#[test]
fn an_address_that_others_can_reach_is_refused_without_tls() {
    let (status, said) = Start::default().arg("--device-bind").arg("0.0.0.0:0").must_fail();
    assert!(!status.success());
    assert!(said.contains("0.0.0.0"), "{said}");
}

#[test]
fn an_unknown_setting_is_refused() {
    let (status, said) = Start::default().arg("--set").arg("limits.acks=3").must_fail();
    assert!(!status.success());
    assert!(said.contains("limits.acks"), "{said}");
}
