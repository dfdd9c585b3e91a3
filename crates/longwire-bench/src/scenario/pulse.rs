//! A few devices that heartbeat steadily beside whatever else goes on: what others feel of it.

use std::time::Duration;

use crate::devices::register;
use crate::error::BenchError;
use crate::latency::Percentiles;
use crate::order::{Back, Login};
use crate::place::Place;
use crate::scenario::online::{HEARTBEAT_S, Online};
use crate::scenario::team::Team;
use crate::server;

/// Devices that heartbeat.
const DEVICES: usize = 100;
/// Their heartbeats per second, in all.
const RATE: u32 = 1_000;
/// How long they heartbeat with nothing beside them.
const QUIET_TIME: Duration = Duration::from_secs(3);
/// Longer than anything that they accompany.
const LONGEST: Duration = Duration::from_secs(600);

/// The devices, logged in.
#[derive(Debug)]
pub(crate) struct Pulse {
    team: Team,
}

impl Pulse {
    /// Registers the devices and logs them in.
    pub(crate) fn start(online: &Online) -> Result<Pulse, BenchError> {
        let devices = register(&online.api, DEVICES, |_| Vec::new())?;
        let logins: Vec<Login> = devices.into_iter().map(|device| device.login).collect();
        online.go(Place::Watched)?;
        let mut team = Team::swarm(&server::program()?, DEVICES, 4)?;
        online.go(Place::Devices)?;
        let to = (online.server.device, online.server.app_key.as_str());
        team.gather(to, &logins, (HEARTBEAT_S, DEVICES), Back::Stay)?;
        Ok(Pulse { team })
    }

    /// From heartbeat to answer with nothing beside it.
    pub(crate) fn quiet(&mut self) -> Result<Option<Percentiles>, BenchError> {
        let rounds = RATE * QUIET_TIME.as_secs() as u32 / DEVICES as u32;
        self.team.ping(rounds, RATE, QUIET_TIME * 2)?;
        Ok(self.team.held(QUIET_TIME * 2)?.latencies.percentiles())
    }

    /// From heartbeat to answer while `work` goes on.
    pub(crate) fn beside(
        &mut self,
        work: impl FnOnce() -> Result<(), BenchError>,
    ) -> Result<Option<Percentiles>, BenchError> {
        self.team.ping(RATE * LONGEST.as_secs() as u32 / DEVICES as u32, RATE, LONGEST)?;
        work()?;
        Ok(self.team.tally()?.latencies.percentiles())
    }
}
