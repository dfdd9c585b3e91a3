//! An operator's hand for the churner: it asks the API to disconnect devices, one after the other, beside the loop.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::error::BenchError;
use crate::http::{Api, Caller};

/// A device to disconnect, and the lane that waits for it.
type Kick = (usize, String);

/// Ends with its connection to the API when it is dropped.
#[derive(Debug)]
pub(super) struct Kicker {
    asked: SyncSender<Kick>,
    failed: Receiver<(usize, String)>,
}

impl Kicker {
    /// `at_once`: kicks that may wait, one for each lane.
    pub(super) fn start(api: Api, at_once: usize) -> Kicker {
        let (asked, kicks) = sync_channel::<Kick>(at_once);
        let (fail, failed) = sync_channel(at_once);
        std::thread::spawn(move || {
            let mut caller = None;
            for (lane, name) in kicks {
                let path = format!("/v1/devices/{name}/disconnect");
                if let Err(error) = call(&api, &mut caller, &path) {
                    // A full queue of failures tells enough; the lane's own deadline ends its cycle.
                    let _ = fail.try_send((lane, error.to_string()));
                }
            }
        });
        Kicker { asked, failed }
    }

    /// Asks for a device to be disconnected; false if it cannot be asked for.
    pub(super) fn kick(&self, lane: usize, name: &str) -> bool {
        self.asked.try_send((lane, name.to_owned())).is_ok()
    }

    /// A lane whose device could not be disconnected, and why.
    pub(super) fn failure(&self) -> Option<(usize, String)> {
        self.failed.try_recv().ok()
    }
}

/// Calls on the open connection, or on a new one when the server has closed that meanwhile.
fn call(api: &Api, caller: &mut Option<Caller>, path: &str) -> Result<(), BenchError> {
    if let Some(open) = caller
        && open.call_well("POST", path, "").is_ok()
    {
        return Ok(());
    }
    let mut fresh = api.open()?;
    fresh.call_well("POST", path, "")?;
    *caller = Some(fresh);
    Ok(())
}
