//! The application as the driver sees it: what waits for it, what it said, what it sends. It outlives connections.

use std::collections::VecDeque;
use std::sync::Arc;

use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::wire::AckKind;
use tokio::sync::mpsc;

use super::changes::Changes;
use super::outgoing::Outgoing;
use super::subscriptions::Subscriptions;
use super::unacked::{Place, Unacked};
use super::withdrawn::Withdrawn;
use crate::incoming::Incoming;
use crate::own::OwnChange;
use crate::storage::outbox::{Keep, Pending};
use crate::storage::remembered::Remembered;
use crate::topic::{Publication, Subscription};

/// Things in the backlog above which answers about subscriptions and changes are dropped.
const ANSWERS_MAX: usize = 1024;

/// What the application asks for. That the channel ends means: close.
#[derive(Debug)]
pub(crate) enum Order {
    /// Say what became of a message.
    Say(AckKind, MessageId),
    /// Subscribe.
    Subscribe(Subscription),
    /// End the subscription with this filter.
    Unsubscribe(String),
    /// Change something of the device.
    Change(OwnChange),
    /// Publish at most once, if there is a connection.
    PublishNow(Publication),
    /// Forget the back-off; find out whether the connection still works.
    NetworkChanged,
}

/// What ended a wait.
pub(super) enum Told {
    Close,
    NetworkChanged,
}

/// Both directions between application and driver.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// What the queue had no room for: at most what one read of the socket gave, as nothing is read before it is empty.
    pub(super) backlog: VecDeque<Incoming>,
    pub(super) unacked: Unacked,
    /// What is not shown any more, also if it waits for the application already.
    pub(super) withdrawn: Withdrawn,
    pub(super) remembered: Option<Remembered>,
    /// The network changed during this connection or wait.
    pub(super) network_changed: bool,
    pub(super) up: Up,
    pub(super) subscriptions: Subscriptions,
    pub(super) changes: Changes,
}

/// The way up.
#[derive(Debug)]
pub(crate) struct Up {
    /// What the outbox took in; it has room for all that may wait.
    pub(crate) kept: mpsc::Receiver<Arc<Pending>>,
    pub(crate) outbox: mpsc::Sender<Keep>,
    pub(crate) outgoing: Outgoing,
    /// Answered, and the outbox not told yet: it has no room for the word just now. At most a window per connection.
    answered: VecDeque<u64>,
}

impl Up {
    /// `waiting`: what an earlier process left, oldest first.
    pub(crate) fn new(
        kept: mpsc::Receiver<Arc<Pending>>,
        outbox: mpsc::Sender<Keep>,
        waiting: Vec<Arc<Pending>>,
    ) -> Up {
        let mut outgoing = Outgoing::default();
        waiting.into_iter().for_each(|pending| outgoing.put(pending));
        Up { kept, outbox, outgoing, answered: VecDeque::new() }
    }

    /// The outbox may forget a message. It is told without waiting for it: a word that is lost with the process only
    /// lets the message be sent again, which the server sees.
    pub(super) fn forget(&mut self, id: u64) {
        self.answered.push_back(id);
        self.tell_outbox();
    }

    pub(super) fn tell_outbox(&mut self) {
        while let Some(id) = self.answered.front() {
            match self.outbox.try_send(Keep::Answered(*id)) {
                Err(mpsc::error::TrySendError::Full(_)) => return,
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => drop(self.answered.pop_front()),
            }
        }
    }
}

impl Application {
    pub(crate) fn new(
        incoming: mpsc::Sender<Incoming>,
        orders: mpsc::Receiver<Order>,
        remembered: Option<Remembered>,
        up: Up,
    ) -> Application {
        let (backlog, unacked) = (VecDeque::new(), Unacked::default());
        let (subscriptions, changes) = (Subscriptions::default(), Changes::default());
        Application {
            incoming,
            orders,
            backlog,
            unacked,
            withdrawn: Withdrawn::default(),
            remembered,
            network_changed: false,
            up,
            subscriptions,
            changes,
        }
    }

    pub(super) fn tell(&mut self, incoming: Incoming) {
        self.backlog.push_back(incoming);
    }

    /// An answer about a subscription or a change. An application that asks and asks and takes nothing is told no more at the bound.
    pub(super) fn tell_of_topic(&mut self, told: Option<Incoming>) {
        if self.backlog.len() < ANSWERS_MAX {
            self.backlog.extend(told);
        }
    }

    /// Notes orders while there is no connection, until one of them ends the wait. Cancel-safe: `recv` and `drain`
    /// are.
    pub(super) async fn told(&mut self) -> Told {
        loop {
            match self.orders.recv().await {
                None => return Told::Close,
                Some(Order::NetworkChanged) => return Told::NetworkChanged,
                Some(order) => {
                    self.note_order(order);
                    // Nobody takes it out of the backlog while this waits.
                    if !self.backlog.is_empty() && !self.drain().await {
                        return Told::Close;
                    }
                    if std::mem::take(&mut self.network_changed) {
                        return Told::NetworkChanged;
                    }
                }
            }
        }
    }

    /// An order while nobody can be told.
    pub(super) fn note_order(&mut self, order: Order) {
        let told = match order {
            Order::Say(kind, message) => {
                self.note(kind, message);
                None
            }
            Order::NetworkChanged => {
                self.network_changed = true;
                None
            }
            Order::Subscribe(subscription) => self.subscriptions.want(subscription),
            Order::Unsubscribe(filter) => self.subscriptions.end(filter),
            Order::Change(change) => self.changes.want(change),
            // At most once means not at all now.
            Order::PublishNow(_) => None,
        };
        self.tell_of_topic(told);
    }

    /// The application's word while nobody can be told.
    pub(super) fn note(&mut self, kind: AckKind, message: MessageId) {
        self.settle(kind, message);
        self.unacked.keep(kind, message);
    }

    /// Remembers an ack before it is said.
    pub(super) fn settle(&mut self, kind: AckKind, message: MessageId) {
        if kind != AckKind::Received {
            return;
        }
        if let Some(Place { source, position, ahead }) = self.unacked.settle(message)
            && let Some(remembered) = &mut self.remembered
        {
            if ahead {
                remembered.settle_ahead(source, position, message);
            } else {
                remembered.settle(source, self.unacked.done_up_to(source, position), Some(message));
            }
        }
    }

    /// For whoever shows what came.
    pub(crate) fn withdrawn(&self) -> Withdrawn {
        self.withdrawn.clone()
    }

    /// A message is recalled or replaced: it is shown no more, now or when it comes.
    pub(super) fn withdraw(&mut self, source: Option<Source>, message: MessageId) {
        self.withdrawn.add(message);
        // In memory the session knows it as met; this is for the next process.
        if let (Some(remembered), Some(source)) = (&mut self.remembered, source) {
            remembered.settle(source, Position::START, Some(message));
        }
    }

    /// Something was left out up to a position.
    pub(super) fn pass(&mut self, source: Source, position: Position) {
        if let Some(remembered) = &mut self.remembered {
            remembered.settle(source, self.unacked.done_up_to(source, position), None);
        }
    }

    /// Waits until the application has taken the backlog; false if it left.
    pub(super) async fn drain(&mut self) -> bool {
        while !self.backlog.is_empty() {
            // Cancel-safe: `recv` and `reserve` both are, and the entry is taken only when its place is there.
            let order = tokio::select! {
                order = self.orders.recv() => order,
                place = self.incoming.reserve() => {
                    let Ok(place) = place else { return false };
                    if let Some(incoming) = self.backlog.pop_front() {
                        place.send(incoming);
                    }
                    continue;
                }
            };
            match order {
                None => return false,
                Some(order) => self.note_order(order),
            }
        }
        true
    }
}
