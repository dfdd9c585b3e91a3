//! Describes a device, checks the description, starts it.

use std::path::PathBuf;

use longwire_proto::id::ClientId;
use longwire_proto::limit::{APP_KEY_BYTES_MAX, HEARTBEAT_S_RANGE, TOKEN_BYTES_MAX};
use longwire_proto::session::{Credentials, HeartbeatPlan};
use longwire_proto::wire::{BackOff, Class, Network};
use tokio::sync::mpsc;

use crate::device::Device;
use crate::driver::application::{Application, Up};
use crate::driver::{Driver, Identity, random};
use crate::entry::EntryNode;
use crate::fleet::Fleet;
use crate::registration::Registration;
use crate::storage::outbox::{Bound, Outbox};
use crate::storage::remembered::Remembered;
use crate::storage::{Folder, StateError};
use crate::upstream::{OUTBOX_BYTES_DEFAULT, OUTBOX_MESSAGES_DEFAULT};

/// Things that wait for the application by default; see [`DeviceBuilder::queue`].
const QUEUE_DEFAULT: usize = 64;
/// Words of the application that wait for the driver, and for the outbox; at the bound the application waits.
const ORDERS_MAX: usize = 256;
/// The heartbeat of a device that was given none, seconds, and how far it grows (004-15).
const HEARTBEAT_S_DEFAULT: u16 = 60;
const HEARTBEAT_LONGEST_S_DEFAULT: u16 = 600;

/// Why a device cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The app key is empty, too long, or has control characters.
    #[error("the app key must have 1 to {APP_KEY_BYTES_MAX} bytes and no control characters")]
    AppKey,
    /// The token is empty or too long.
    #[error("the token must have 1 to {TOKEN_BYTES_MAX} bytes")]
    Token,
    /// There is no entry node, or an empty one.
    #[error("at least one entry node (host:port) is needed")]
    EntryNodes,
    /// The state folder cannot be used.
    #[error("the state folder cannot be used: {0}")]
    State(#[from] StateError),
}

/// Describes a device. `app_key`, `token`, `client` and an entry node are needed; a [`Registration`] has the last three.
#[derive(Clone, Debug)]
pub struct DeviceBuilder {
    credentials: Credentials,
    entry_nodes: Vec<EntryNode>,
    back_off: BackOff,
    heartbeat: HeartbeatPlan,
    fleet: Option<Fleet>,
    state: Option<PathBuf>,
    bound: Bound,
    queue: usize,
}

impl Default for DeviceBuilder {
    fn default() -> Self {
        let credentials = Credentials {
            app_key: String::new(),
            token: String::new(),
            client: ClientId(0),
            network: Network::Unknown,
            class: Class::Iot,
            heartbeat_s: HEARTBEAT_S_DEFAULT,
        };
        DeviceBuilder {
            credentials,
            entry_nodes: Vec::new(),
            back_off: BackOff::default(),
            heartbeat: HeartbeatPlan {
                start_s: HEARTBEAT_S_DEFAULT,
                longest_s: HEARTBEAT_LONGEST_S_DEFAULT,
                assigned: true,
                padded: false,
            },
            fleet: None,
            state: None,
            bound: Bound { messages: OUTBOX_MESSAGES_DEFAULT, bytes: OUTBOX_BYTES_DEFAULT },
            queue: QUEUE_DEFAULT,
        }
    }
}

impl DeviceBuilder {
    /// Takes client id, token, entry nodes (of equal weight), heartbeat and back-off from a registration.
    #[must_use]
    pub fn registration(mut self, registration: &Registration) -> Self {
        self.credentials.client = registration.client_id;
        self.credentials.token.clone_from(&registration.token);
        self.heartbeat.start_s = registration.heartbeat_s;
        let nodes = registration.entry_nodes.iter().cloned();
        self.entry_nodes = nodes.map(|address| EntryNode { address, weight: 1 }).collect();
        self.back_off = registration.back_off.clone();
        self
    }

    /// The app's public key.
    #[must_use]
    pub fn app_key(mut self, app_key: impl Into<String>) -> Self {
        self.credentials.app_key = app_key.into();
        self
    }

    /// The token from registration.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials.token = token.into();
        self
    }

    /// The client id from registration.
    #[must_use]
    pub fn client(mut self, client: ClientId) -> Self {
        self.credentials.client = client;
        self
    }

    /// Adds an entry node, `host:port`; one is chosen at random at each attempt (004-24).
    #[must_use]
    pub fn entry_node(self, address: impl Into<String>) -> Self {
        self.weighted_entry_node(address, 1)
    }

    /// Adds an entry node with its share: one of weight 3 is chosen three times as often as one of weight 1.
    #[must_use]
    pub fn weighted_entry_node(mut self, address: impl Into<String>, weight: u32) -> Self {
        self.entry_nodes.push(EntryNode { address: address.into(), weight });
        self
    }

    /// What carries the bytes; unknown by default.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.credentials.network = network;
        self
    }

    /// The device's class; [`Class::Iot`] by default.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.credentials.class = class;
        self
    }

    /// The heartbeat to begin with, seconds, whatever the server asks for; 60 or the server's wish by default. Clamped to
    /// [`HEARTBEAT_S_RANGE`], and to the server's range at login.
    #[must_use]
    pub fn heartbeat_s(mut self, seconds: u16) -> Self {
        self.heartbeat.start_s = seconds.clamp(*HEARTBEAT_S_RANGE.start(), *HEARTBEAT_S_RANGE.end());
        self.heartbeat.assigned = false;
        self
    }

    /// To how much the heartbeat may grow while all PINGs are answered and nothing else passes, seconds, 600 by default
    /// (004-15), within the server's range. 0 keeps it as it begins.
    #[must_use]
    pub fn heartbeat_longest_s(mut self, seconds: u16) -> Self {
        self.heartbeat.longest_s = seconds;
        self
    }

    /// Whether heartbeats carry 48 to 112 bytes that look random, for carriers that throttle small packets of one size
    /// (004-32); off by default, and then as the server
    /// asks at login.
    #[must_use]
    pub fn padding(mut self, padded: bool) -> Self {
        self.heartbeat.padded = padded;
        self
    }

    /// Connects only with a token of this bucket, which many devices of a process share.
    #[must_use]
    pub fn fleet(mut self, fleet: &Fleet) -> Self {
        self.fleet = Some(fleet.clone());
        self
    }

    /// Keeps the outbox, and what was acked, in this folder, which is made if it is not there. It belongs to one device
    /// and one process at a time. Without it both live in memory and end with the device.
    #[must_use]
    pub fn state(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state = Some(folder.into());
        self
    }

    /// How many messages, and how many bytes of them, may wait for their answer: 1,000 and 4 MiB by default. Beyond it
    /// [`Device::send`] refuses.
    #[must_use]
    pub fn outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.bound = Bound { messages: messages.clamp(1, 65_536), bytes };
        self
    }

    /// The back-off until the server gives one; the articles' by default (004-21).
    #[must_use]
    pub fn back_off(mut self, back_off: BackOff) -> Self {
        self.back_off = back_off;
        self
    }

    /// How many things may wait for the application, at least 1, 64 by default.
    #[must_use]
    pub fn queue(mut self, length: usize) -> Self {
        self.queue = length.clamp(1, 65_536);
        self
    }

    /// Starts the device. It must be called inside a tokio runtime with time and network. It reads the state folder, if
    /// there is one, and returns; [`Device::next`] tells how the connection fares.
    ///
    /// # Errors
    /// What was described cannot be a device, or the state folder cannot be used.
    pub fn connect(mut self) -> Result<Device, BuildError> {
        self.check()?;
        self.credentials.heartbeat_s = self.heartbeat.start_s;
        let client = self.credentials.client;
        let folder = self.state.as_deref().map(|path| Folder::hold(path, client)).transpose()?;
        let outbox = Outbox::open(folder.as_ref(), self.bound, random())?;
        let remembered = folder.as_ref().map(Remembered::open).transpose()?;
        let (to_application, incoming) = mpsc::channel(self.queue);
        let (orders, from_application) = mpsc::channel(ORDERS_MAX);
        let (keep, asked) = mpsc::channel(ORDERS_MAX);
        let (to_driver, kept) = mpsc::channel(self.bound.messages);
        let up = Up::new(kept, keep.clone(), outbox.waiting());
        let application = Application::new(to_application, from_application, remembered, up);
        let withdrawn = application.withdrawn();
        let identity = Identity {
            credentials: self.credentials,
            entry_nodes: self.entry_nodes,
            back_off: self.back_off,
            heartbeat: self.heartbeat,
            fleet: self.fleet,
        };
        let driver = tokio::spawn(Driver::new(identity, application).run());
        let keeper = tokio::spawn(outbox.run(asked, to_driver));
        Ok(Device { incoming, orders, outbox: keep, tasks: [driver, keeper], withdrawn, expired: None })
    }

    fn check(&self) -> Result<(), BuildError> {
        let Credentials { app_key, token, .. } = &self.credentials;
        if !(1..=APP_KEY_BYTES_MAX).contains(&app_key.len()) || app_key.bytes().any(|b| b.is_ascii_control())
        {
            return Err(BuildError::AppKey);
        }
        if !(1..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(BuildError::Token);
        }
        if self.entry_nodes.is_empty() || self.entry_nodes.iter().any(|node| node.address.is_empty()) {
            return Err(BuildError::EntryNodes);
        }
        Ok(())
    }
}
