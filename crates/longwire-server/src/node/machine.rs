//! What the kernel tells about this machine in `/proc` and `/sys`. Read below a root that can be given, so that a tree
//! of files can stand for any machine.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes read of one file; what the kernel shows here is shorter.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Entries read of one folder.
const ENTRIES_MAX: usize = 4096;
/// Folders between a control group and the root that are asked for their limit.
const GROUP_DEPTH_MAX: usize = 32;

/// A machine as its `/proc` and `/sys` show it.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one that this process runs on.
    #[must_use]
    pub fn here() -> Machine {
        Machine::below("/")
    }

    /// One whose `/proc` and `/sys` lie below this folder.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    /// A file's text without white space at its ends; `None` if it is missing or cannot be read. Paths have no slash in
    /// front: `proc/meminfo`.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.root.join(path)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The numbers of a file, in order; words between them are left out.
    #[must_use]
    pub fn numbers(&self, path: impl AsRef<Path>) -> Vec<u64> {
        let text = self.text(path).unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// The first number of a file.
    #[must_use]
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.numbers(path).first().copied()
    }

    /// A kernel setting: `net.core.somaxconn`.
    #[must_use]
    pub fn sysctl(&self, key: &str) -> Option<Vec<u64>> {
        let numbers = self.numbers(Path::new("proc/sys").join(key.replace('.', "/")));
        (!numbers.is_empty()).then_some(numbers)
    }

    /// The names in a folder, sorted; none if it is missing.
    #[must_use]
    pub fn names(&self, folder: impl AsRef<Path>) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root.join(folder)) else { return Vec::new() };
        let names = entries.flatten().take(ENTRIES_MAX);
        let mut names: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Whether something is there.
    #[must_use]
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.root.join(path).exists()
    }

    /// The last name that a link leads to.
    #[must_use]
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = std::fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// A process's limit of open descriptors, soft and hard; `self` is the one that asks. `u64::MAX` is none.
    #[must_use]
    pub fn descriptor_limits(&self, process: &str) -> Option<(u64, u64)> {
        let text = self.text(Path::new("proc").join(process).join("limits"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let mut words = line.split_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            word => word.parse().ok(),
        });
        Some((words.next()??, words.next()??))
    }

    /// A line of `/proc/meminfo` in bytes.
    #[must_use]
    pub fn memory_line(&self, name: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }

    /// Bytes that this process may use: the machine's memory, or less if its control group says so.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        let whole = self.memory_line("MemTotal")?;
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let limits = groups.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let (folder, file) = match controllers {
                "" => ("sys/fs/cgroup", "memory.max"),
                "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                _ => return None,
            };
            // A limit of any group above holds too.
            let above = Path::new(group).ancestors().take(GROUP_DEPTH_MAX);
            above.filter_map(|group| self.number(Path::new(folder).join(group).join(file))).min()
        });
        Some(limits.min().map_or(whole, |limit| limit.min(whole)))
    }

    /// Cores that are at work; 1 if the kernel does not say.
    #[must_use]
    pub fn cores(&self) -> u64 {
        let text = self.text("proc/cpuinfo").unwrap_or_default();
        let cores = text.lines().filter(|line| line.starts_with("processor")).count();
        (cores as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Machine;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::below(root.path());
        (root, machine)
    }

    #[test]
    fn the_smallest_limit_of_the_groups_above_holds() {
        let (_root, machine) = machine(&[
            ("proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            ("proc/self/cgroup", "0::/system.slice/longwire.service\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "4194304\n"),
            ("sys/fs/cgroup/system.slice/longwire.service/memory.max", "max\n"),
        ]);
        assert_eq!(machine.memory_bytes(), Some(4_194_304));
        assert_eq!(machine.memory_line("MemTotal"), Some(16_777_216));
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_nothing() {
        let (_root, machine) = machine(&[
            ("proc/meminfo", "MemTotal: lots\n"),
            ("proc/self/limits", "Max open files  many  1024 files\n"),
            ("proc/7/limits", "Limit  Soft  Hard\nMax open files            1024      unlimited    files\n"),
        ]);
        assert_eq!(machine.memory_bytes(), None);
        assert_eq!(machine.descriptor_limits("self"), None);
        assert_eq!(machine.descriptor_limits("7"), Some((1024, u64::MAX)));
        assert_eq!(machine.sysctl("net.core.somaxconn"), None);
        assert_eq!(machine.cores(), 1);
        assert!(machine.names("sys/class/net").is_empty());
    }
}
