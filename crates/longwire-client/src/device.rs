//! The face of a device: take what comes, ack, send.

use futures_util::stream::{self, Stream};
use longwire_proto::id::MessageId;
use longwire_proto::wire::AckKind;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::builder::DeviceBuilder;
use crate::driver::application::Order;
use crate::driver::withdrawn::Withdrawn;
use crate::incoming::Incoming;
use crate::own::{OwnChange, OwnError};
use crate::storage::outbox::Keep;
use crate::topic::{Publication, Subscription, TopicError, check_filter};
use crate::upstream::{Outward, SendError, UpstreamId, UpstreamMessage};

/// A device that connects, and connects again, until it is closed, dropped, or refused for good.
///
/// Everything that happens comes out of [`next`](Device::next). An application that takes nothing fills the queue;
/// then the device stops reading, at last the connection is lost, and it comes back when the queue was emptied.
#[derive(Debug)]
pub struct Device {
    pub(crate) incoming: mpsc::Receiver<Incoming>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) outbox: mpsc::Sender<Keep>,
    /// The driver and the outbox.
    pub(crate) tasks: [JoinHandle<()>; 2],
    /// What was recalled or replaced.
    pub(crate) withdrawn: Withdrawn,
    /// A message that expired or was withdrawn while it waited and is not acked yet; here, so that [`next`](Device::next) is cancel-safe.
    pub(crate) expired: Option<MessageId>,
}

impl Device {
    /// Begins to describe a device.
    #[must_use]
    pub fn builder() -> DeviceBuilder {
        DeviceBuilder::default()
    }

    /// What comes next; `None` when the device has ended, whose cause was the last
    /// [`State::Stopped`](crate::State::Stopped). Cancel-safe. A message that expired, was recalled or was replaced
    /// while it waited is acked and not shown.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some(message) = self.expired {
                self.ack(message).await;
                self.expired = None;
            }
            match self.incoming.recv().await? {
                Incoming::Message(message)
                    if message.expires.is_some_and(|end| end <= Instant::now())
                        || self.withdrawn.holds(message.id) =>
                {
                    self.expired = message.needs_ack().then_some(message.id);
                }
                incoming => return Some(incoming),
            }
        }
    }

    /// Everything that [`next`](Device::next) gives, as a stream that owns the device. Take an [`acker`](Device::acker) and
    /// a [`sender`](Device::sender) before.
    pub fn into_stream(self) -> impl Stream<Item = Incoming> + Send + 'static {
        stream::unfold(self, async |mut device| {
            let incoming = device.next().await?;
            Some((incoming, device))
        })
    }

    /// Puts a message into the outbox. When this returns, it is on disk if the device has a
    /// [`state folder`](DeviceBuilder::state), and will be sent until the server has answered it for good, over reconnects,
    /// other nodes and restarts; the server drops what it has seen. The end is told by [`Incoming::Answered`]. In order,
    /// save that a message for which the server was busy comes later.
    ///
    /// Not cancel-safe: if the future is dropped, the message may be in the outbox or not.
    ///
    /// # Errors
    /// See [`SendError`]; the message will not be sent then.
    pub async fn send(&self, message: UpstreamMessage) -> Result<UpstreamId, SendError> {
        put(&self.outbox, Outward::Upstream(message)).await
    }

    /// Publishes to a topic at least once, by the outbox: as [`send`](Device::send), save that a message that is sent again after a
    /// reconnect may arrive twice. The end is told by [`Incoming::Answered`]; [`ResultCode::Quota`](crate::ResultCode::Quota) is one
    /// here.
    ///
    /// Not cancel-safe, as `send`.
    ///
    /// # Errors
    /// See [`SendError`]; the message will not be sent then.
    pub async fn publish(&self, publication: Publication) -> Result<UpstreamId, SendError> {
        put(&self.outbox, Outward::Publication(publication)).await
    }

    /// Publishes to a topic at most once: on the connection that is there, or not at all. Nobody says what became of it.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn publish_now(&self, publication: Publication) -> Result<(), SendError> {
        publication.check()?;
        self.orders.send(Order::PublishNow(publication)).await.map_err(|_| SendError::Ended)
    }

    /// Subscribes to topics, now or when there is a connection, and on every later one again. The outcome is told by
    /// [`Incoming::Subscribed`], messages come as [`Incoming::Message`]. Another subscription with the same filter takes the place of
    /// the one before.
    ///
    /// # Errors
    /// Not a filter, or the device has ended.
    pub async fn subscribe(&self, subscription: Subscription) -> Result<(), TopicError> {
        subscription.check()?;
        self.orders.send(Order::Subscribe(subscription)).await.map_err(|_| TopicError::Ended)
    }

    /// Ends the subscription with this filter, whoever made it; told by [`Incoming::Unsubscribed`]. One that is kept and that could not
    /// be ended before the device ends goes on.
    ///
    /// # Errors
    /// Not a filter, or the device has ended.
    pub async fn unsubscribe(&self, filter: &str) -> Result<(), TopicError> {
        check_filter(filter)?;
        self.orders.send(Order::Unsubscribe(filter.to_owned())).await.map_err(|_| TopicError::Ended)
    }

    /// Changes something of the device itself, where its app allows it: now or when there is a connection, after what was asked for
    /// before. The outcome is told by [`Incoming::Changed`]. What was not answered before the device ends is forgotten.
    ///
    /// # Errors
    /// A text that no server takes, or the device has ended.
    pub async fn change(&self, change: OwnChange) -> Result<(), OwnError> {
        change.check()?;
        self.orders.send(Order::Change(change)).await.map_err(|_| OwnError::Ended)
    }

    /// [`OwnChange::Bind`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn bind(&self, alias: &str) -> Result<(), OwnError> {
        self.change(OwnChange::Bind(alias.to_owned())).await
    }

    /// [`OwnChange::Unbind`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn unbind(&self, alias: &str) -> Result<(), OwnError> {
        self.change(OwnChange::Unbind(alias.to_owned())).await
    }

    /// [`OwnChange::AddTag`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn add_tag(&self, tag: &str) -> Result<(), OwnError> {
        self.change(OwnChange::AddTag(tag.to_owned())).await
    }

    /// [`OwnChange::RemoveTag`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn remove_tag(&self, tag: &str) -> Result<(), OwnError> {
        self.change(OwnChange::RemoveTag(tag.to_owned())).await
    }

    /// [`OwnChange::SetAttribute`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn set_attribute(&self, name: &str, value: &str) -> Result<(), OwnError> {
        self.change(OwnChange::SetAttribute { name: name.to_owned(), value: value.to_owned() }).await
    }

    /// [`OwnChange::RemoveAttribute`].
    ///
    /// # Errors
    /// As [`Device::change`].
    pub async fn remove_attribute(&self, name: &str) -> Result<(), OwnError> {
        self.change(OwnChange::RemoveAttribute(name.to_owned())).await
    }

    /// For sending from another task.
    #[must_use]
    pub fn sender(&self) -> Sender {
        Sender { outbox: self.outbox.downgrade() }
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

    /// The network changed: the back-off begins anew and a waiting device connects at once (004-25). A device that is
    /// connected finds out within ten seconds whether its connection still works.
    pub async fn network_changed(&self) {
        let _ = self.orders.send(Order::NetworkChanged).await;
    }

    /// Ends the connection in an orderly way and waits for it. What was not taken is dropped; unacked messages come again
    /// to the next device with these credentials. What is in the outbox stays in the state folder, which is free for
    /// another device then; without a folder it is lost.
    pub async fn close(self) {
        let Device { incoming, orders, outbox, tasks, .. } = self;
        drop((incoming, orders, outbox));
        for task in tasks {
            let _ = task.await;
        }
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

/// Sends for a [`Device`] from another task. It does not keep the device alive.
#[derive(Clone, Debug)]
pub struct Sender {
    outbox: mpsc::WeakSender<Keep>,
}

impl Sender {
    /// As [`Device::send`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, message: UpstreamMessage) -> Result<UpstreamId, SendError> {
        let outbox = self.outbox.upgrade().ok_or(SendError::Ended)?;
        put(&outbox, Outward::Upstream(message)).await
    }

    /// As [`Device::publish`].
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn publish(&self, publication: Publication) -> Result<UpstreamId, SendError> {
        let outbox = self.outbox.upgrade().ok_or(SendError::Ended)?;
        put(&outbox, Outward::Publication(publication)).await
    }
}

async fn put(outbox: &mpsc::Sender<Keep>, message: Outward) -> Result<UpstreamId, SendError> {
    message.check()?;
    let (answer, kept) = oneshot::channel();
    outbox.send(Keep::Send(message, answer)).await.map_err(|_| SendError::Ended)?;
    kept.await.map_err(|_| SendError::Ended)?
}
