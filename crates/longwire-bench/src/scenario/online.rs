//! A server with its devices online: what idle, fanout and unicast begin with.

use crate::args::ServerArgs;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::http::Api;
use crate::metrics::LoopLag;
use crate::order::Login;
use crate::place::{Place, Places};
use crate::scenario::team::Team;
use crate::server::{self, Server};

/// The heartbeat that devices announce, seconds: the longest, so that heartbeats do not disturb what is measured.
pub(crate) const HEARTBEAT_S: u16 = 1200;
/// The tag that every device has.
pub(crate) const TAG: &str = "bench";

/// A server, its API, registered devices and the fleets that play them. Fields end in this order: devices first.
#[derive(Debug)]
pub(crate) struct Online {
    pub(crate) team: Team,
    pub(crate) devices: Vec<Device>,
    pub(crate) api: Api,
    /// The loop's lag before anything was measured.
    pub(crate) lag: LoopLag,
    pub(crate) server: Server,
    /// Each party has cores of its own.
    pub(crate) places: Option<Places>,
}

impl Online {
    /// Finds or starts the server and registers `count` devices; none is connected yet.
    pub(crate) fn begin(args: &ServerArgs, count: usize) -> Result<Online, BenchError> {
        Online::begin_with(args, None, count, |_| vec![TAG])
    }

    /// The same; `tags` says which tags the device of a number has, `places` where each party runs.
    pub(crate) fn begin_with(
        args: &ServerArgs,
        places: Option<Places>,
        count: usize,
        tags: impl Fn(usize) -> Vec<&'static str>,
    ) -> Result<Online, BenchError> {
        go(places.as_ref(), Place::Server)?;
        let server = Server::obtain(args)?;
        go(places.as_ref(), Place::Devices)?;
        let api = Api::new(server.api, &server.app_key, &server.app_secret);
        let devices = register(&api, count, tags)?;
        let team = Team::start(&server::program()?, count, 2)?;
        let lag = LoopLag::read(&api)?;
        Ok(Online { team, devices, api, lag, server, places })
    }

    /// With `--apart`: from now on this thread, and what it starts, run there.
    pub(crate) fn go(&self, place: Place) -> Result<(), BenchError> {
        go(self.places.as_ref(), place)
    }

    /// Logs in the devices up to `count`; returns how many the server has welcomed.
    pub(crate) fn log_in_up_to(&mut self, count: usize) -> Result<usize, BenchError> {
        let live = self.team.live();
        let logins: Vec<Login> =
            self.devices[live..count].iter().map(|device| device.login.clone()).collect();
        self.team.log_in(self.server.device, &self.server.app_key, &logins, HEARTBEAT_S)
    }
}

fn go(places: Option<&Places>, place: Place) -> Result<(), BenchError> {
    places.map_or(Ok(()), |places| places.go(place))
}
