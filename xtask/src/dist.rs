//! `cargo xtask dist`: the release in a tarball.

use crate::demo::build_release;
use crate::step::{Failed, output, root, succeed, target};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What goes in beside the binary.
const PAGES: &[&str] = &["LICENSE", "README.md", "CHANGELOG.md"];

pub(crate) fn run() -> Result<(), Failed> {
    let binary = build_release()?;
    let name = format!("longwire-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let dist = target().join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    copy(&binary, &folder.join("longwire"))?;
    for page in PAGES {
        copy(&root().join(page), &folder.join(page))?;
    }
    let archive = format!("{name}.tar.gz");
    let mut tar = Command::new("tar");
    tar.current_dir(&dist).args(["--owner=0", "--group=0", "--sort=name", "-czf", &archive, &name]);
    succeed(tar)?;
    println!("{}", dist.join(archive).display());
    Ok(())
}

fn host() -> Result<String, Failed> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV");
    let text = output(rustc)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failed("rustc does not say its host".to_owned()))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failed> {
    fs::copy(from, to).map(drop).map_err(|error| at(from, &error))
}

fn at(path: &Path, error: &std::io::Error) -> Failed {
    Failed(format!("{}: {error}", path.display()))
}
