//! `longwire doctor` on machines made of files: good ones, bad ones, and ones that say nothing.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::TestServer;
use tempfile::TempDir;

const CPUS: &str = "processor\t: 0\nprocessor\t: 1\nprocessor\t: 2\nprocessor\t: 3\n";
const QUEUE: &str = "/sys/class/net/eth0/queues/rx-0";

/// What a machine shows.
struct Fixture {
    root: TempDir,
    data: TempDir,
}

impl Fixture {
    /// A machine that says nothing at all.
    fn empty() -> Fixture {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Fixture { root: tempfile::tempdir().unwrap(), data }
    }

    /// A machine that is set up as the files in deploy/ say, with 16 GiB and four cores.
    fn good() -> Fixture {
        let machine = Fixture::empty();
        for line in include_str!("../../../deploy/sysctl.d/60-longwire.conf").lines() {
            if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
                machine.sysctl(key.trim_start_matches('-'), value);
            }
        }
        machine.sysctl("net.netfilter.nf_conntrack_count", "1000");
        machine.sysctl("net.ipv4.tcp_mem", "262144 349525 524288");
        machine.limit("1024", "1048576");
        machine.write("proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:   15000000 kB\n");
        machine.write("proc/cpuinfo", CPUS);
        machine.write("proc/softirqs", "   CPU0 CPU1 CPU2 CPU3\n NET_RX: 300000 300000 200000 250000\n");
        let mounts = "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n";
        machine.write("proc/self/mounts", mounts);
        machine.write("sys/class/net/lo/operstate", "unknown\n");
        machine.write("sys/class/net/eth0/device/vendor", "0x1af4\n");
        machine.write("sys/class/net/eth0/operstate", "up\n");
        machine.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "f\n");
        let clocks = "sys/devices/system/clocksource/clocksource0";
        machine.write(&format!("{clocks}/current_clocksource"), "tsc\n");
        machine.write(&format!("{clocks}/available_clocksource"), "tsc hpet acpi_pm \n");
        machine.write("run/systemd/timesync/synchronized", "");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn sysctl(&self, key: &str, value: &str) {
        self.write(&format!("proc/sys/{}", key.replace('.', "/")), &format!("{value}\n"));
    }

    fn limit(&self, soft: &str, hard: &str) {
        let head = "Limit                     Soft Limit           Hard Limit           Units     \n";
        self.write(
            "proc/self/limits",
            &format!("{head}Max open files            {soft}      {hard}      files\n"),
        );
    }

    fn examine(&self, more: &[&str]) -> Report {
        examine(self.root.path(), self.data.path(), more)
    }
}

/// What was found, and the exit code.
struct Report {
    code: Option<i32>,
    document: Value,
}

impl Report {
    /// The finding about this.
    #[track_caller]
    fn about(&self, subject: &str) -> &Value {
        let findings = self.document["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["subject"] == subject);
        found.unwrap_or_else(|| panic!("nothing about {subject} in {:#}", self.document))
    }
    #[track_caller]
    fn level(&self, subject: &str) -> &str {
        self.about(subject)["level"].as_str().unwrap()
    }
    #[track_caller]
    fn mend(&self, subject: &str) -> &str {
        self.about(subject)["mend"].as_str().unwrap_or("")
    }
    #[track_caller]
    fn found(&self, subject: &str) -> &str {
        self.about(subject)["found"].as_str().unwrap()
    }
}

fn examine(root: &Path, data: &Path, more: &[&str]) -> Report {
    let output = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["doctor", "--json", "--set", "storage.reserve=0", "--root"])
        .arg(root)
        .arg("--data-dir")
        .arg(data)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Report { code: output.status.code(), document }
}

/// A disk of the machine that runs the tests may be slow or nearly full; that is not what these tests are about.
fn of_the_real_disk(finding: &Value) -> bool {
    matches!(finding["subject"].as_str(), Some("sync" | "free space"))
}

#[test]
fn a_machine_set_up_by_the_files_in_deploy_is_found_well() {
    let report = Fixture::good().examine(&["--connections", "1000000"]);
    let findings = report.document["findings"].as_array().unwrap();
    for finding in findings.iter().filter(|finding| !of_the_real_disk(finding)) {
        assert_eq!(finding["level"], "ok", "{finding:#}");
        assert!(finding.get("mend").is_none(), "{finding:#}");
    }
    assert!(findings.len() > 15, "{} findings", findings.len());
    assert_eq!(report.document["capacity"]["by_descriptors"], 1_047_040);
    assert_eq!(report.document["capacity"]["nearest"], "descriptors");
}

#[test]
fn a_machine_that_says_nothing_is_no_error() {
    let report = Fixture::empty().examine(&[]);
    assert_eq!(report.level("descriptor limit"), "advice");
    assert_eq!(report.level("wall clock"), "warning");
    assert_eq!(report.level("data directory"), "ok");
    assert_eq!(report.document["errors"], 0);
    assert_eq!(report.code, Some(0));
}

#[test]
fn each_kernel_setting_that_is_short_names_the_command_that_mends_it() {
    let short = [
        ("fs.nr_open", "1024", "warning", "1048576"),
        ("fs.file-max", "8192", "warning", "2097152"),
        ("fs.epoll.max_user_watches", "50000", "warning", "1048576"),
        ("net.core.somaxconn", "128", "warning", "4096"),
        ("net.ipv4.tcp_max_syn_backlog", "512", "warning", "8192"),
        ("net.ipv4.tcp_syncookies", "0", "warning", "1"),
        ("net.ipv4.ip_local_port_range", "32768 60999", "advice", "10240 65535"),
        ("net.core.rps_sock_flow_entries", "0", "advice", "32768"),
        ("net.netfilter.nf_conntrack_max", "65535", "warning", "1048576"),
        ("net.ipv4.tcp_mem", "1 2 3", "warning", "262144 349525 524288"),
    ];
    for (key, value, level, wanted) in short {
        let machine = Fixture::good();
        machine.sysctl(key, value);
        let report = machine.examine(&[]);
        assert_eq!(report.level(key), level, "{key}");
        assert!(report.mend(key).contains(&format!("sysctl -w {key}=\"{wanted}\"")), "{}", report.mend(key));
        assert!(report.about(key)["why"].as_str().unwrap().len() > 20);
    }
}

#[test]
fn few_descriptors_are_an_error_only_against_a_promise() {
    let machine = Fixture::good();
    machine.limit("1024", "20000");
    let report = machine.examine(&[]);
    assert_eq!((report.level("descriptor limit"), report.code), ("warning", Some(0)));
    assert!(
        report.found("descriptor limit").contains("18464 devices"),
        "{}",
        report.found("descriptor limit")
    );
    assert!(report.mend("descriptor limit").contains("LimitNOFILE=1048576"));
    let report = machine.examine(&["--connections", "18464"]);
    assert_eq!((report.level("descriptor limit"), report.code), ("ok", Some(0)));
    let report = machine.examine(&["--connections", "18465"]);
    assert_eq!((report.level("descriptor limit"), report.code), ("error", Some(1)));
}

#[test]
fn memory_of_the_control_group_counts() {
    let machine = Fixture::good();
    machine.write("proc/self/cgroup", "0::/longwire\n");
    machine.write("sys/fs/cgroup/longwire/memory.max", "134217728\n");
    let report = machine.examine(&["--connections", "100000"]);
    assert_eq!((report.level("memory"), report.code), ("error", Some(1)));
    assert!(report.mend("memory").contains("connections_max=19989"), "{}", report.mend("memory"));
    assert_eq!(report.document["capacity"]["nearest"], "memory");
}

#[test]
fn a_full_table_of_the_firewall_is_an_error() {
    let machine = Fixture::good();
    machine.sysctl("net.netfilter.nf_conntrack_count", "1048000");
    let report = machine.examine(&["--device-bind", "127.0.0.1:7801"]);
    assert_eq!((report.level("connection tracking"), report.code), ("error", Some(1)));
    assert!(report.mend("connection tracking").contains("tcp dport 7801 notrack"));
}

#[test]
fn a_card_that_uses_one_core_is_told_how_to_use_more() {
    let machine = Fixture::good();
    machine.write(&QUEUE[1..].replace("rx-0", "rx-0/rps_cpus"), "00000000\n");
    let report = machine.examine(&[]);
    assert_eq!(report.level("network card eth0"), "warning");
    assert!(report.mend("network card eth0").contains(&format!("echo f > {QUEUE}/rps_cpus")));
    assert!(report.mend("network card eth0").contains(&format!("echo 32768 > {QUEUE}/rps_flow_cnt")));
    machine.write("proc/cpuinfo", "processor : 0\n");
    assert_eq!(machine.examine(&[]).level("network card eth0"), "ok", "one core has nothing to share");
}

#[test]
fn interrupts_of_all_queues_on_one_core_are_found() {
    let machine = Fixture::good();
    let mut interrupts = String::from("           CPU0       CPU1       CPU2       CPU3\n");
    for queue in 0..4 {
        machine.write(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "0\n");
        machine.write(&format!("proc/irq/{}/smp_affinity_list", 40 + queue), "0\n");
        interrupts += &format!(" {}:  9000  0  0  0  PCI-MSI {queue}-edge  eth0-TxRx-{queue}\n", 40 + queue);
    }
    machine.write("proc/interrupts", &interrupts);
    let report = machine.examine(&[]);
    assert_eq!(report.level("network card eth0"), "warning");
    assert!(report.mend("network card eth0").contains("echo 3 > /proc/irq/43/smp_affinity_list"));
    for queue in 0..4 {
        machine.write(&format!("proc/irq/{}/smp_affinity_list", 40 + queue), &format!("{queue}\n"));
    }
    assert_eq!(machine.examine(&[]).level("network card eth0"), "ok");
}

#[test]
fn packets_that_all_went_to_one_core_are_seen() {
    let machine = Fixture::good();
    machine.write("proc/softirqs", "   CPU0 CPU1 CPU2 CPU3\n NET_RX: 990000 1000 1000 1000\n");
    assert_eq!(machine.examine(&[]).level("spread of packets"), "advice");
}

#[test]
fn slow_clocks_and_unkept_ones_are_found() {
    let machine = Fixture::good();
    machine.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    fs::remove_file(machine.root.path().join("run/systemd/timesync/synchronized")).unwrap();
    let report = machine.examine(&[]);
    assert_eq!(report.level("clock source"), "warning");
    assert!(report.mend("clock source").starts_with("echo tsc > /sys/devices/"));
    assert_eq!(report.level("wall clock"), "warning");
    assert!(report.mend("wall clock").contains("timedatectl set-ntp true"));
    machine.write("run/chrony/chronyd.pid", "7\n");
    assert_eq!(machine.examine(&[]).level("wall clock"), "ok");
}

#[test]
fn a_disk_of_another_machine_and_one_that_passes_are_found() {
    for (kind, level) in [("nfs4", "warning"), ("tmpfs", "warning"), ("fuse.sshfs", "warning"), ("xfs", "ok")]
    {
        let machine = Fixture::good();
        let place = machine.data.path().canonicalize().unwrap();
        let mounts = format!("/dev/sda1 / ext4 rw 0 0\nx {} {kind} rw 0 0\n", place.display());
        machine.write("proc/self/mounts", &mounts);
        let report = machine.examine(&[]);
        assert_eq!(report.level("file system"), level, "{kind}");
        assert!(report.found("file system").contains(kind));
    }
}

#[test]
fn a_data_directory_that_cannot_be_one_is_an_error() {
    let machine = Fixture::good();
    let file = machine.data.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let report = examine(machine.root.path(), &file, &[]);
    assert_eq!((report.level("data directory"), report.code), ("error", Some(1)));
    fs::set_permissions(machine.data.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let report = machine.examine(&[]);
    assert_eq!(report.level("data directory"), "warning");
    assert!(report.mend("data directory").starts_with("chmod 700 "));
}

#[test]
fn free_space_below_the_reserve_is_an_error() {
    let machine = Fixture::good();
    let report = machine.examine(&["--set", "storage.reserve=1000000000000000"]);
    assert_eq!((report.level("free space"), report.code), ("error", Some(1)));
}

#[test]
fn the_store_is_free_in_use_or_damaged() {
    let machine = Fixture::good();
    assert!(machine.examine(&[]).found("message store").starts_with("none yet"));
    let mut server = TestServer::start_in(machine.data.path());
    let pid = server.pid();
    let limits = "Max open files            512      512      files\n";
    machine.write(&format!("proc/{pid}/limits"), limits);
    let report = machine.examine(&[]);
    assert_eq!(report.level("message store"), "ok");
    assert!(report.found("message store").ends_with(&format!("in use by pid {pid}")));
    // The limit that matters is then the server's own.
    assert!(report.found("descriptor limit").starts_with(&format!("512 of the server (pid {pid})")));
    assert!(server.terminate().success());
    let before = listing(machine.data.path());
    let report = machine.examine(&[]);
    assert_eq!((report.level("message store"), report.level("registry")), ("ok", "ok"));
    assert!(report.found("message store").ends_with("complete and free"));
    assert_eq!(listing(machine.data.path()), before, "something was changed");
    fs::write(machine.data.path().join("registry.db"), "something else altogether").unwrap();
    fs::remove_file(machine.data.path().join("messages/seal")).unwrap();
    let report = machine.examine(&[]);
    assert_eq!((report.level("message store"), report.level("registry")), ("error", "error"));
    assert_eq!(report.code, Some(1));
}

#[test]
fn a_store_that_only_an_open_can_judge_is_opened_when_told() {
    let machine = Fixture::good();
    let mut server = TestServer::start_in(machine.data.path());
    server.register("d1", None, &[]);
    for number in 0..20 {
        let to = serde_json::json!({ "registration_id": ["d1"] });
        server.api.push_text(to, &number.to_string()).message_id();
    }
    assert!(server.terminate().success());
    assert_eq!(machine.examine(&["--open-stores"]).level("open of the stores"), "ok");
    let version = machine.data.path().join("messages/engine/version");
    fs::write(&version, [0xA5; 64]).unwrap();
    assert_eq!(machine.examine(&[]).level("message store"), "ok", "a look at the files cannot see this");
    let report = machine.examine(&["--open-stores"]);
    assert_eq!((report.level("open of the stores"), report.code), ("error", Some(1)));
    let place = machine.data.path().to_string_lossy();
    assert!(report.found("open of the stores").contains(&*place), "{}", report.found("open of the stores"));
}

/// Every file below a folder, with its length and time of change.
fn listing(folder: &Path) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::metadata(&path).unwrap();
        if about.is_dir() {
            found.extend(listing(&path));
        } else {
            found.push((path, about.len(), about.modified().unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn people_get_a_line_for_each_thing_and_a_sum() {
    let machine = Fixture::good();
    machine.sysctl("net.core.somaxconn", "128");
    let output = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["doctor", "--root"])
        .arg(machine.root.path())
        .arg("--data-dir")
        .arg(machine.data.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("WARNING  net.core.somaxconn: 128\n"), "{text}");
    assert!(text.contains("mend: sysctl -w net.core.somaxconn=\"4096\""), "{text}");
    assert!(text.contains("ok       fs.nr_open: 1048576\n"), "{text}");
    assert!(text.trim_end().lines().last().unwrap().contains("warnings"), "{text}");
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(["doctor", "--set", "limits.acks=3"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
