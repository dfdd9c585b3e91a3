//! The files in `deploy/` and the advice say the same.

#![allow(clippy::unwrap_used)]

use super::advice::{DESCRIPTORS, SYSCTLS};
use std::collections::BTreeMap;

const SYSCTL_FILE: &str = include_str!("../../../../deploy/sysctl.d/60-longwire.conf");
const UNIT: &str = include_str!("../../../../deploy/systemd/longwire.service");

/// The assignments of a file; a minus in front means "where there is such a setting".
fn assignments(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    let pairs = lines.map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line} sets nothing")));
    pairs
        .map(|(key, value)| (key.trim().trim_start_matches('-').to_owned(), value.trim().to_owned()))
        .collect()
}

#[test]
fn the_sysctl_file_sets_what_is_advised_and_nothing_else() {
    let in_file: BTreeMap<String, String> = assignments(SYSCTL_FILE).into_iter().collect();
    let advised = SYSCTLS.iter().map(|sysctl| (sysctl.key.to_owned(), sysctl.value())).collect();
    assert_eq!(in_file, advised);
    assert_eq!(assignments(SYSCTL_FILE).len(), SYSCTLS.len(), "a setting stands twice");
}

#[test]
fn what_the_sysctl_file_sets_is_found_well() {
    for (key, value) in assignments(SYSCTL_FILE) {
        let sysctl = SYSCTLS.iter().find(|sysctl| sysctl.key == key).unwrap();
        let numbers: Vec<u64> = value.split(' ').map(|word| word.parse().unwrap()).collect();
        assert!(sysctl.is_met(&numbers), "{key}");
        let fewer: Vec<u64> = match numbers[..] {
            [number] => vec![number - 1],
            [first, last] => vec![first + 1, last],
            _ => panic!("{key} has {} numbers", numbers.len()),
        };
        assert!(!sysctl.is_met(&fewer), "{key} = {fewer:?} is found well");
    }
}

#[test]
fn each_kernel_setting_has_its_reason() {
    for sysctl in SYSCTLS {
        assert!(sysctl.why.len() > 40, "{}", sysctl.key);
    }
    for paragraph in SYSCTL_FILE.split("\n\n") {
        assert!(paragraph.starts_with('#'), "no reason is given for {paragraph}");
    }
}

#[test]
fn the_unit_gives_the_descriptors_that_are_advised() {
    let unit = assignments(UNIT);
    let value = |key: &str| unit.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(value("LimitNOFILE"), Some(DESCRIPTORS.to_string().as_str()));
    let nr_open = SYSCTLS.iter().find(|sysctl| sysctl.key == "fs.nr_open").unwrap();
    assert!(nr_open.is_met(&[DESCRIPTORS]), "the kernel would refuse the unit's limit");
}

#[test]
fn the_unit_waits_for_ready_and_for_the_drain() {
    let unit = assignments(UNIT);
    let value = |key: &str| unit.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    assert_eq!(value("Type"), Some("notify"));
    assert!(value("WatchdogSec").is_some_and(|seconds| seconds.parse::<u32>().unwrap() > 0));
    assert_eq!(value("Restart"), Some("on-failure"), "a missed watchdog must start it again");
    let config = super::build(super::Layers::default()).ok().unwrap();
    let stop: u64 = value("TimeoutStopSec").unwrap().parse().unwrap();
    assert!(stop >= 2 * config.drain.as_secs() + 15, "the manager would kill it in the middle of a drain");
    // It reads these at its start.
    assert_eq!(value("ProcSubset"), None);
}
