//! `--apart`: each party of a measurement on cores of its own, so that a figure is the server's and not the scheduler's
//! between the server and those that measure it.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::BenchError;

/// A party, and which of the machine's cores it gets: the first half, all the others but the last, the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// The server, and the bare loop that it is compared with.
    Server,
    /// The devices and the callers of the API.
    Devices,
    /// Those whose latency is watched.
    Watched,
}

/// Fewer cores cannot be shared out.
const CORES_MIN: usize = 4;

/// Cores that this process had when it began.
#[derive(Clone, Debug)]
pub(crate) struct Places(Vec<usize>);

impl Places {
    /// The cores that may be used. Before any call of [`Places::go`].
    pub(crate) fn of_machine() -> Result<Places, BenchError> {
        let set =
            sched_getaffinity(None).map_err(io::Error::from).map_err(BenchError::system("read own cores"))?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
        if cores.len() < CORES_MIN {
            let have = cores.len();
            return Err(BenchError::Options(format!(
                "--apart needs {CORES_MIN} cores, and there are {have}"
            )));
        }
        Ok(Places(cores))
    }

    /// From now on this thread, and what it starts, run there.
    pub(crate) fn go(&self, place: Place) -> Result<(), BenchError> {
        let mut set = CpuSet::new();
        self.cores(place).iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).map_err(io::Error::from).map_err(BenchError::system("choose own cores"))
    }

    fn cores(&self, place: Place) -> &[usize] {
        let (half, last) = (self.0.len() / 2, self.0.len() - 1);
        match place {
            Place::Server => &self.0[..half],
            Place::Devices => &self.0[half..last],
            Place::Watched => &self.0[last..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_core_belongs_to_one_party() {
        for count in CORES_MIN..20 {
            let places = Places((0..count).collect());
            let all = [Place::Server, Place::Devices, Place::Watched].map(|place| places.cores(place));
            assert!(all.iter().all(|cores| !cores.is_empty()));
            assert_eq!(all.concat(), places.0);
        }
    }
}
