//! The face of a device: build it, connect it, take what comes, ack.

use longwire_proto::id::{ClientId, MessageId};
use longwire_proto::limit::{APP_KEY_BYTES_MAX, HEARTBEAT_S_RANGE, TOKEN_BYTES_MAX};
use longwire_proto::session::Credentials;
use longwire_proto::wire::{AckKind, BackOff, Class, Network};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::{Driver, Order};
use crate::incoming::Incoming;
use crate::registration::Registration;

/// Things that wait for the application by default; see [`DeviceBuilder::queue`].
const QUEUE_DEFAULT: usize = 64;
/// Words of the application that wait for the driver; at the bound the application waits.
const ORDERS_MAX: usize = 256;

/// A device that connects, and connects again, until it is closed, dropped, or refused for good.
///
/// Everything that happens comes out of [`next`](Device::next). An application that takes nothing fills the queue;
/// then the device stops reading, at last the connection is lost, and it comes back when the queue was emptied.
#[derive(Debug)]
pub struct Device {
    incoming: mpsc::Receiver<Incoming>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    /// A message that expired while it waited and is not acked yet; here, so that [`next`](Device::next) is cancel-safe.
    expired: Option<MessageId>,
}

impl Device {
    /// Begins to describe a device.
    #[must_use]
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    /// What comes next; `None` when the device has ended, whose cause was the last
    /// [`State::Stopped`](crate::State::Stopped). Cancel-safe. A message that expired while it waited is acked and
    /// not shown.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some(message) = self.expired {
                self.ack(message).await;
                self.expired = None;
            }
            match self.incoming.recv().await? {
                Incoming::Message(message) if message.expires.is_some_and(|end| end <= Instant::now()) => {
                    self.expired = message.needs_ack().then_some(message.id);
                }
                incoming => return Some(incoming),
            }
        }
    }

    /// The application has the message: the server may forget it. It waits for acks half a minute or so, then closes
    /// with [`AckTimeout`](longwire_proto::close::CloseReason::AckTimeout) and sends again. An ack that is lost with its connection is repeated
    /// when the message comes again. After the device's end it goes nowhere.
    pub async fn ack(&self, message: MessageId) {
        self.say(AckKind::Received, message).await;
    }

    /// A person could see the message.
    pub async fn displayed(&self, message: MessageId) {
        self.say(AckKind::Displayed, message).await;
    }

    /// A person acted on the message.
    pub async fn clicked(&self, message: MessageId) {
        self.say(AckKind::Clicked, message).await;
    }

    /// A person put the message away.
    pub async fn dismissed(&self, message: MessageId) {
        self.say(AckKind::Dismissed, message).await;
    }

    /// Says any of the above. While the device is not connected the last
    /// [`DEDUP_WINDOW_MESSAGES`](longwire_proto::limit::DEDUP_WINDOW_MESSAGES) words are kept for the next connection.
    pub async fn say(&self, kind: AckKind, message: MessageId) {
        // An error means that the driver has ended, and nobody is left to tell.
        let _ = self.orders.send(Order::Say(kind, message)).await;
    }

    /// For acks from another task.
    #[must_use]
    pub fn acker(&self) -> Acker {
        Acker { orders: self.orders.downgrade() }
    }

    /// The network changed: the back-off begins anew and a waiting device connects at once (004-25).
    pub async fn network_changed(&self) {
        let _ = self.orders.send(Order::NetworkChanged).await;
    }

    /// Ends the connection in an orderly way and waits for it. What was not taken is dropped; unacked messages come again
    /// to the next device with these credentials.
    pub async fn close(self) {
        let Device { incoming, orders, task, .. } = self;
        drop((incoming, orders));
        let _ = task.await;
    }
}

/// Acks for a [`Device`] from another task. It does not keep the device alive.
#[derive(Clone, Debug)]
pub struct Acker {
    orders: mpsc::WeakSender<Order>,
}

impl Acker {
    /// As [`Device::say`].
    pub async fn say(&self, kind: AckKind, message: MessageId) {
        if let Some(orders) = self.orders.upgrade() {
            let _ = orders.send(Order::Say(kind, message)).await;
        }
    }
}

/// Why a device cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
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
}

/// Describes a device. `app_key`, `token`, `client` and an entry node are needed; a [`Registration`] has the last three.
#[derive(Clone, Debug)]
pub struct DeviceBuilder {
    credentials: Credentials,
    entry_nodes: Vec<String>,
    back_off: BackOff,
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
            heartbeat_s: 60,
        };
        let (entry_nodes, back_off) = (Vec::new(), BackOff::default());
        DeviceBuilder { credentials, entry_nodes, back_off, queue: QUEUE_DEFAULT }
    }
}

impl DeviceBuilder {
    /// Takes client id, token, entry nodes, heartbeat and back-off from a registration.
    #[must_use]
    pub fn registration(mut self, registration: &Registration) -> Self {
        self.credentials.client = registration.client_id;
        self.credentials.token.clone_from(&registration.token);
        self.credentials.heartbeat_s = registration.heartbeat_s;
        self.entry_nodes.clone_from(&registration.entry_nodes);
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
    pub fn entry_node(mut self, address: impl Into<String>) -> Self {
        self.entry_nodes.push(address.into());
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

    /// The planned heartbeat, seconds, 60 by default; clamped to
    /// [`HEARTBEAT_S_RANGE`], and to the server's range at login.
    #[must_use]
    pub fn heartbeat_s(mut self, seconds: u16) -> Self {
        self.credentials.heartbeat_s = seconds.clamp(*HEARTBEAT_S_RANGE.start(), *HEARTBEAT_S_RANGE.end());
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

    /// Starts the device. It must be called inside a tokio runtime with time and network; it returns at once, and
    /// [`Device::next`] tells how the connection fares.
    ///
    /// # Errors
    /// What was described cannot be a device.
    pub fn connect(self) -> Result<Device, BuildError> {
        let Credentials { app_key, token, .. } = &self.credentials;
        if !(1..=APP_KEY_BYTES_MAX).contains(&app_key.len()) || app_key.bytes().any(|b| b.is_ascii_control())
        {
            return Err(BuildError::AppKey);
        }
        if !(1..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(BuildError::Token);
        }
        if self.entry_nodes.is_empty() || self.entry_nodes.iter().any(String::is_empty) {
            return Err(BuildError::EntryNodes);
        }
        let (to_application, incoming) = mpsc::channel(self.queue);
        let (orders, from_application) = mpsc::channel(ORDERS_MAX);
        let driver =
            Driver::new(self.credentials, self.entry_nodes, self.back_off, to_application, from_application);
        Ok(Device { incoming, orders, task: tokio::spawn(driver.run()), expired: None })
    }
}
