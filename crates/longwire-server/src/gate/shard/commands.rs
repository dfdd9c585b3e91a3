//! What the hub says. A command for a connection that is gone is counted and forgotten.

use super::Shard;
use crate::delivery::border::{Attach, Command, Event, Handle, Outgoing};
use crate::domain::{MessageId, Position, Source, WallMs};
use crate::gate::connection::{Connection, Conversation, Piece, handle};
use crate::gate::pressure::Level;
use crate::gate::stats::ShardStats;
use crate::planted::{Fault as Planted, planted, planted_in};
use crate::store::port::{End, Page, PageEntry as Stored};
use bytes::Bytes;
use longwire_proto::limit::{AHEAD_MESSAGES_MAX, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX};
use longwire_proto::session::{FeedStart, Offer, PageEntry};
use longwire_proto::wire::{Gap, GapReason, PushHead, ServerFrame, Welcome, push_flags, push_frame};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Commands taken in one turn.
const COMMANDS_PER_TURN: usize = 1024;

impl Shard {
    pub(super) fn take_commands(&mut self) {
        if !std::mem::take(&mut self.commands_waiting) {
            return;
        }
        self.queue.look();
        self.take_controls();
        for _ in 0..COMMANDS_PER_TURN {
            if self.outlet.is_backed_up() || self.fanout.is_full() {
                self.commands_waiting = true;
                return;
            }
            match self.queue.next_command() {
                Some(command) => self.command(command),
                None => return,
            }
        }
        self.commands_waiting = true;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Attach(attach) => self.attach(*attach),
            Command::Refuse { to, reason, retry_after_s } | Command::Close { to, reason, retry_after_s } => {
                if let Some(slot) = self.find(to) {
                    self.close(slot, reason, retry_after_s);
                }
            }
            Command::Share { to } => self.share(to),
            // Dropping the other half tells whoever waits.
            Command::Recall { message, done: _ } => self.recall(message),
            Command::EndIfSilent { to, client, app } => self.end_if_silent(to, client, app),
            Command::Deliver { to, position, message } => self.deliver(to, position, &message),
            Command::DeliverNow { to, message } => self.deliver_now(to, &message),
            Command::Broadcast(broadcast) => {
                if broadcast.position != Position::START {
                    self.members.log_grew(broadcast.app, broadcast.position);
                }
                self.fanout.queue(broadcast);
            }
            Command::Count(headcount) => {
                let (fitting, members) = self.members.count(headcount.app, &headcount.reach.condition);
                if headcount.add(fitting, members) {
                    self.outlet.tell(Event::Counted(headcount));
                }
            }
            Command::Page { to, source, page } => match (self.find(to), page) {
                (Some(slot), Some(page)) => self.page(slot, source, &page),
                (Some(_), None) => self.failed_pages.push((to, source)),
                (None, _) => {}
            },
            Command::Topic(command) => self.topic_command(command),
            Command::Own(answer) => self.own_answered(answer),
            Command::Inspect { of, reply } => self.inspect(of, reply),
            Command::Answer { to, answer } => {
                let Some(slot) = self.find(to) else { return };
                if let Some(session) = self.slab.at(slot).and_then(Connection::live) {
                    let mut frame = Vec::with_capacity(32);
                    ServerFrame::UpAck(answer).encode(session.client(), &mut frame);
                    self.send_later(slot, Piece::whole(Bytes::from(frame)));
                }
            }
            Command::Retag { to, labels } => {
                if let Some(slot) = self.find(to)
                    && let Some(connection) = self.slab.at(slot)
                {
                    connection.flags.labelled = !labels.is_empty();
                    self.members.label(slot, labels);
                }
            }
        }
    }

    /// The device has other connections: what is in this one's window now, and all that enters it, is told to the hub.
    fn share(&mut self, to: Handle) {
        let Some(slot) = self.find(to) else { return };
        let Some(connection) = self.slab.at(slot) else { return };
        if std::mem::replace(&mut connection.flags.shared, true) {
            return;
        }
        let Some((client, deliveries)) = connection.deliveries() else { return };
        for delivery in deliveries.unacked().filter(|delivery| delivery.gap.is_none()) {
            self.outlet.tell(Event::Held { client, message: delivery.message });
        }
    }

    /// A stored delivery has entered a window.
    pub(super) fn tell_held(&mut self, slot: u32, message: MessageId) {
        let Some(connection) = self.slab.at(slot).filter(|connection| connection.flags.shared) else {
            return;
        };
        let Some((client, _)) = connection.deliveries() else { return };
        self.outlet.tell(Event::Held { client, message });
    }

    pub(super) fn find(&mut self, handle: Handle) -> Option<u32> {
        let slot = self.slab.find(handle);
        if slot.is_none() {
            ShardStats::count(&self.stats.own().commands_missed, 1);
        }
        slot
    }

    fn attach(&mut self, attach: Attach) {
        let Some(slot) = self.find(attach.to) else { return };
        let now_s = self.time.now_s();
        // A broadcast that this shard has handed out already, and that the store's view does not hold, was missed.
        let missed = self.members.log_head(attach.app) > attach.log_head;
        let log = FeedStart { waiting: attach.log.waiting || missed, ..attach.log };
        let Some(connection) = self.slab.at(slot) else { return };
        if matches!(connection.conversation, Conversation::MqttDeciding(_)) {
            return self.attach_mqtt(slot, attach, log);
        }
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        let Conversation::Deciding(deciding) = state else {
            connection.conversation = state;
            return;
        };
        self.stats.own().deciding.fetch_sub(1, Relaxed);
        ShardStats::count(&self.stats.own().decided, 1);
        let session = deciding.accept(attach.client, attach.mailbox, log);
        connection.conversation = Conversation::Live(session);
        connection.app = attach.app;
        connection.read_s = now_s;
        connection.flags.labelled = !attach.labels.is_empty();
        let unread = std::mem::take(&mut connection.flags.unread);
        self.members.join(attach.app, slot, attach.labels);
        self.begin_frequency(slot, attach.frequency);
        self.stats.own().sessions.fetch_add(1, Relaxed);
        let welcome = Welcome {
            node: self.options.node.clone(),
            heartbeat_s: attach.heartbeat.interval_s,
            phase: self.phases.draw(),
            padding_max: attach.heartbeat.padding_max,
            heartbeat_min_s: self.options.heartbeat_min_s,
            heartbeat_max_s: self.options.heartbeat_max_s,
            window: (WINDOW_MESSAGES_MAX + AHEAD_MESSAGES_MAX) as u16,
            server_time_ms: attach.server_time.0,
            back_off: self.options.back_off.clone(),
        };
        self.scratch.reply.clear();
        ServerFrame::Welcome(welcome).encode(attach.client, &mut self.scratch.reply);
        self.reply(slot);
        if let Some(kept) = &attach.topics {
            self.resume_topics(slot, kept);
        }
        self.pull(slot);
        if unread {
            self.list(slot);
        }
    }

    fn deliver(&mut self, to: Handle, position: Position, message: &Arc<Outgoing>) {
        let Some(slot) = self.find(to) else { return };
        let over = self.is_over_cap(slot, message.high, &message.shared);
        let Some(connection) = self.slab.at(slot) else { return };
        let unwritable = connection.flags.unwritable;
        let recalled = self.recalled.contains(message.message);
        let bytes = message.shared.len() as u32;
        match &mut connection.conversation {
            Conversation::Deciding(deciding) => return deciding.mailbox_grew(),
            Conversation::MqttDeciding(deciding) => return deciding.deciding.mailbox_grew(),
            _ => {}
        }
        let Some((_, deliveries)) = connection.deliveries() else { return };
        if unwritable {
            return match message.high {
                true => deliveries.defer_high(Source::Mailbox, position),
                false => deliveries.defer(Source::Mailbox, position),
            };
        }
        if recalled || over {
            // The store has what the device is to be told instead, or what is then judged anew.
            deliveries.defer(Source::Mailbox, position);
            return self.pull(slot);
        }
        let offer = match message.high {
            true => deliveries.offer_high(Source::Mailbox, position, message.message, bytes),
            false => deliveries.offer(Source::Mailbox, position, message.message, bytes),
        };
        match offer {
            Offer::Send { previous } => {
                let head =
                    self.head(Source::Mailbox, position, previous, message.deadline, flags_of(message.high));
                self.count_for_cap(slot, message.high, &message.shared);
                self.send_delivery(slot, message.message, &message.shared, head);
            }
            Offer::Ahead => {
                let head = self.head(Source::Mailbox, position, position, message.deadline, FLAGS_AHEAD);
                self.count_ahead();
                self.send_delivery(slot, message.message, &message.shared, head);
            }
            Offer::Later => self.pull(slot),
            Offer::Skip => {}
        }
    }

    fn deliver_now(&mut self, to: Handle, message: &Arc<Outgoing>) {
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let found = self.find(to).filter(|_| !shed);
        let writable = found.and_then(|slot| {
            let connection = self.slab.at(slot)?;
            let live = connection.deliveries().is_some();
            (live && !connection.flags.unwritable).then_some(slot)
        });
        let stats = self.stats.own();
        let (sent, dropped) = if writable.is_some() { (1, 0) } else { (0, 1) };
        ShardStats::count(&stats.sent, sent.into());
        ShardStats::count(&stats.dropped, dropped.into());
        if let Some(slot) = writable
            && self.slab.at(slot).and_then(Connection::mqtt).is_some()
        {
            self.send_push_now(slot, &message.shared);
        } else if let Some(slot) = writable {
            let head = PushHead { flags: flags_of(message.high), ..ONLINE_ONLY };
            let frame = push_frame(&head, &message.shared);
            self.send_later(slot, Piece::whole(Bytes::from(frame)));
        }
        self.outlet.tell(Event::Sent { message: message.message, sent, dropped });
    }

    fn page(&mut self, slot: u32, source: Source, page: &Page) {
        let mut end = page.end;
        self.page_ahead(slot, source, page);
        for entry in &page.entries {
            let gone = self
                .left_out(entry)
                .or_else(|| self.over_cap(slot, entry))
                .map(|(position, message, reason)| Stored::Gap { position, message, reason, count: 1 });
            let entry = gone.as_ref().unwrap_or(entry);
            let Some(connection) = self.slab.at(slot) else { return };
            let speaks_mqtt = connection.mqtt().is_some();
            let (position, message, bytes, gap) = match entry {
                Stored::Message { position, message, shared, .. } => {
                    (*position, *message, shared.len() as u32, None)
                }
                Stored::Gap { position, message, reason, .. } => (*position, *message, 0, Some(*reason)),
                // Only an MQTT client completes it.
                Stored::Released { position, message } => {
                    (*position, *message, 0, (!speaks_mqtt).then_some(GapReason::Dropped))
                }
            };
            let Some((_, deliveries)) = connection.deliveries() else { return };
            match deliveries.page_entry(source, position, message, bytes, gap) {
                PageEntry::Send { previous } => self.send_stored(slot, source, previous, entry),
                // Nothing of the entries goes ahead.
                PageEntry::Repeated | PageEntry::Ahead => {}
                PageEntry::Full => {
                    end = false;
                    break;
                }
            }
        }
        if let Some((_, deliveries)) = self.slab.at(slot).and_then(Connection::deliveries) {
            deliveries.page_ends(source, end);
        }
        self.pull(slot);
    }

    /// What a page brings ahead of its turn.
    fn page_ahead(&mut self, slot: u32, source: Source, page: &Page) {
        let (mut any, mut left) = (false, page.more_ahead);
        for entry in &page.ahead {
            let Stored::Message { position, message, deadline, shared, .. } = entry else { continue };
            // In its turn the device is told.
            if self.left_out(entry).is_some() {
                continue;
            }
            let Some((_, deliveries)) = self.slab.at(slot).and_then(Connection::deliveries) else { return };
            if deliveries.page_ahead(source, *position, *message, shared.len() as u32) == PageEntry::Ahead {
                any = true;
                let flags = FLAGS_AHEAD | push_flags::MAY_REPEAT;
                let head = self.head(source, *position, *position, *deadline, flags);
                self.count_ahead();
                self.send_delivery(slot, *message, shared, head);
            } else {
                left = true;
            }
        }
        // Without progress and with places, asking again would bring the same.
        if left
            && let Some((_, deliveries)) = self.slab.at(slot).and_then(Connection::deliveries)
            && (any || !deliveries.has_room_ahead())
        {
            deliveries.high_waits(source);
        }
    }

    pub(super) fn count_ahead(&self) {
        ShardStats::count(&self.stats.own().sent_ahead, 1);
    }

    fn send_stored(&mut self, slot: u32, source: Source, previous: Position, entry: &Stored) {
        let speaks_mqtt = self.slab.at(slot).and_then(Connection::mqtt).is_some();
        match entry {
            Stored::Message { position, message, deadline, shared, high } => {
                self.count_for_cap(slot, *high, shared);
                let flags = push_flags::MAY_REPEAT | flags_of(*high);
                let head = self.head(source, *position, previous, *deadline, flags);
                self.send_delivery(slot, *message, shared, head);
            }
            // MQTT has no word for what was left out.
            Stored::Gap { message, reason, .. } if speaks_mqtt => {
                self.ends_at_once(slot, *message, End::GapNoted(*reason));
            }
            Stored::Released { position, .. } if speaks_mqtt => self.send_release(slot, source, *position),
            Stored::Gap { position, message, reason, count } => {
                let (position, message, reason, count) = (*position, *message, *reason, *count);
                self.send_gap(slot, Gap { source, position, previous, reason, message, count });
            }
            // The native protocol has no release: the device, which got it as an MQTT client, takes note of the place.
            Stored::Released { position, message } => {
                let (position, message, reason) = (*position, *message, GapReason::Dropped);
                self.send_gap(slot, Gap { source, position, previous, reason, message, count: 1 });
            }
        }
    }

    /// Sends a stored message that is in the window already.
    pub(super) fn send_delivery(&mut self, slot: u32, message: MessageId, shared: &Bytes, head: PushHead) {
        let now = (self.wall)();
        if let Some((_, deliveries)) = self.slab.at(slot).and_then(Connection::deliveries) {
            // 0 would be no stamp.
            deliveries.stamp(message, (now.0 as u32).max(1));
        }
        let is_mqtt = self.slab.at(slot).and_then(Connection::mqtt).is_some();
        if is_mqtt && !self.send_stored_publish(slot, message, shared, &head) {
            return;
        }
        ShardStats::count(&self.stats.own().sent, 1);
        self.outlet.tell(Event::Sent { message, sent: 1, dropped: 0 });
        if is_mqtt {
            return;
        }
        self.tell_held(slot, message);
        self.send_later(slot, Piece::push(head.encode(shared.len()), shared.clone()));
        if planted_in(Planted::SendsTwice, 8) {
            self.send_later(slot, Piece::push(head.encode(shared.len()), shared.clone()));
        }
        self.await_ack(slot);
    }

    fn send_gap(&mut self, slot: u32, gap: Gap) {
        let Some(session) = self.slab.at(slot).and_then(Connection::live) else { return };
        if planted(Planted::HidesGaps) {
            return;
        }
        let mut frame = Vec::with_capacity(64);
        ServerFrame::Gap(gap).encode(session.client(), &mut frame);
        let awaits = session.deliveries().has_unacked();
        self.send_later(slot, Piece::whole(Bytes::from(frame)));
        if awaits {
            self.await_ack(slot);
        }
    }

    /// The head of a stored delivery; what is left of its ttl is told in whole seconds, at least one.
    pub(super) fn head(
        &self,
        source: Source,
        position: Position,
        previous: Position,
        deadline: WallMs,
        flags: u8,
    ) -> PushHead {
        let left_ms = deadline.0.saturating_sub((self.wall)().0);
        let ttl_s = u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        PushHead { source: Some(source), position, previous, ttl_s, flags }
    }

    /// Asks again for pages that the store could not give.
    pub(super) fn retry_failed_pages(&mut self) {
        let failed = std::mem::take(&mut self.failed_pages);
        for (to, source) in failed {
            if let Some(slot) = self.slab.find(to) {
                if let Some((_, deliveries)) = self.slab.at(slot).and_then(Connection::deliveries) {
                    deliveries.page_ends(source, false);
                }
                self.pull(slot);
            }
        }
    }

    /// The handle of a slot of this shard.
    pub(super) fn handle(&self, slot: u32) -> Handle {
        handle(self.id, slot, &self.slab)
    }
}

/// The flags of a delivery in its turn.
pub(super) const fn flags_of(high: bool) -> u8 {
    if high { push_flags::HIGH } else { 0 }
}

/// The flags of a delivery ahead of its turn; its `previous` is its own position.
pub(super) const FLAGS_AHEAD: u8 = push_flags::HIGH | push_flags::AHEAD;

/// The head of every online-only delivery.
pub(super) const ONLINE_ONLY: PushHead =
    PushHead { source: None, position: Position::START, previous: Position::START, ttl_s: 0, flags: 0 };

const _: () = assert!(WINDOW_BYTES_MAX >= crate::domain::message::MESSAGE_BYTES_MAX);
