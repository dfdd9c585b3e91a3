//! Certificate files that are wrong: each is told with what to do.

use crate::certificates::{Authority, Folder, unasked};
use longwire_server::gate::transport::{Clients, TlsFileError, TlsTerms};
use rustls::pki_types::UnixTime;
use std::time::Duration;

/// 1 July 2024.
const NOW_S: u64 = 1_719_792_000;

fn judged(folder: &Folder, clients: fn(std::path::PathBuf) -> Clients) -> TlsFileError {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW_S));
    TlsTerms::open(folder.files(clients), now).expect_err("the files are wrong")
}

#[test]
fn a_missing_file_is_named() {
    for (name, clients) in [
        ("cert.pem", unasked as fn(_) -> _),
        ("key.pem", unasked),
        ("clients.pem", Clients::Required),
        ("clients.pem", Clients::Asked),
    ] {
        let folder = Folder::new();
        std::fs::remove_file(folder.path(name)).unwrap();
        let error = judged(&folder, clients);
        assert!(matches!(&error, TlsFileError::Unreadable { path, .. } if *path == folder.path(name)));
        assert!(error.to_string().contains("check the path"), "{error}");
    }
}

#[test]
fn files_with_the_wrong_contents_are_told_apart() {
    let folder = Folder::new();
    let (certificate, key) = (folder.path("cert.pem"), folder.path("key.pem"));
    let (certificates, keys) = (std::fs::read(&certificate).unwrap(), std::fs::read(&key).unwrap());
    std::fs::write(&certificate, &keys).unwrap();
    assert!(matches!(judged(&folder, unasked), TlsFileError::NoCertificate(path) if path == certificate));
    std::fs::write(&certificate, &certificates).unwrap();
    std::fs::write(&key, &certificates).unwrap();
    assert!(matches!(judged(&folder, unasked), TlsFileError::NoKey(path) if path == key));
    std::fs::write(
        &key,
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    let error = judged(&folder, unasked);
    assert!(
        matches!(error, TlsFileError::NoKey(_)) && error.to_string().contains("without password"),
        "{error}"
    );
    std::fs::write(&key, &keys).unwrap();
    std::fs::write(&certificate, &certificates[..certificates.len() / 4]).unwrap();
    assert!(matches!(judged(&folder, unasked), TlsFileError::Damaged { path, .. } if path == certificate));
    let nonsense = b"-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&certificate, nonsense).unwrap();
    assert!(matches!(judged(&folder, unasked), TlsFileError::Damaged { path, .. } if path == certificate));
    std::fs::write(&certificate, vec![b'\n'; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(judged(&folder, unasked), TlsFileError::TooLong(path) if path == certificate));
    std::fs::write(&certificate, &certificates).unwrap();
    folder.write("clients.pem", "no block");
    assert!(matches!(judged(&folder, Clients::Asked), TlsFileError::NoCertificate(_)));
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAAAAAA\n-----END PRIVATE KEY-----\n";
    folder.write("key.pem", nonsense);
    assert!(matches!(judged(&folder, unasked), TlsFileError::Refused { path, .. } if path == key));
}

#[test]
fn a_key_of_another_certificate_is_named_with_it() {
    let folder = Folder::new();
    folder.write("key.pem", &Authority::new("x").identity("other", |_| {}).key);
    let error = judged(&folder, unasked);
    assert!(matches!(&error, TlsFileError::Mismatch { key, .. } if *key == folder.path("key.pem")));
    assert!(error.to_string().contains("give the key of that certificate"), "{error}");
}

#[test]
fn a_certificate_out_of_its_time_is_told_with_the_days() {
    let folder = Folder::new();
    let old = folder.authority.identity("server", |params| {
        params.not_before = rcgen::date_time_ymd(2023, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 6, 21);
    });
    folder.write("cert.pem", &old.certificate);
    folder.write("key.pem", &old.key);
    let error = judged(&folder, unasked);
    assert!(matches!(error, TlsFileError::Expired { days: 10, .. }), "{error:?}");
    assert!(error.to_string().contains("expired 10 days ago: renew it"), "{error}");
    let young = folder.authority.identity("server", |params| {
        params.not_before = rcgen::date_time_ymd(2024, 7, 6);
        params.not_after = rcgen::date_time_ymd(2034, 1, 1);
    });
    folder.write("cert.pem", &young.certificate);
    folder.write("key.pem", &young.key);
    assert!(matches!(judged(&folder, unasked), TlsFileError::NotYetValid { days: 5, .. }));
}
