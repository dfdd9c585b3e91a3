//! `cargo xtask engines`: the database servers that tests run, as Debian has them. Tests start them themselves, each with data of
//! its own under `target/tmp`; the ones that Debian starts are not touched.

use crate::checks::{install_packages, is_there};
use crate::step::Failed;
use std::path::PathBuf;

/// Programs with the Debian packages that hold them.
const PROGRAMS: &[(&str, &str)] =
    &[("mariadbd", "mariadb-server"), ("mariadb-install-db", "mariadb-server"), ("setpriv", "util-linux")];

pub(crate) fn run() -> Result<(), Failed> {
    install_packages(PROGRAMS)?;
    // Debian keeps PostgreSQL's programs in a folder for each version.
    if postgres().is_none() {
        install_packages(&[("initdb", "postgresql")])?;
    }
    match postgres() {
        Some(_) => Ok(()),
        None => Err(Failed("initdb and postgres are not there; install PostgreSQL".to_owned())),
    }
}

fn postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok();
    let mut folders = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let kept = folders.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    kept.or_else(|| (is_there("initdb") && is_there("postgres")).then(PathBuf::new))
}
