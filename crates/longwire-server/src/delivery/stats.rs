//! What the hub counts; read by the metrics page.

use crate::domain::Audience;
use crate::domain::Tally;
use longwire_proto::close::CloseReason;
use longwire_proto::wire::{AckKind, ResultCode};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The labels of [`HubStats::accepted`], in order.
pub const AUDIENCE_LABELS: [&str; 5] = ["registration_id", "alias", "tag", "all", "topic"];
/// The labels of [`HubStats::feedback`], in order.
pub const FEEDBACK_LABELS: [&str; 4] = ["received", "displayed", "clicked", "dismissed"];
/// The labels of [`HubStats::upstream`], in order.
pub const UPSTREAM_LABELS: [&str; 5] = ["done", "unsupported", "not_allowed", "quota", "busy"];

/// The labels of [`HubStats::webhook_requests`], in order.
pub const WEBHOOK_LABELS: [&str; 2] = ["taken", "failed"];

/// The labels of [`HubStats::call_outs`], in order.
pub const CALL_OUT_LABELS: [&str; 4] = ["answered", "remembered", "failed", "held_back"];

/// What became of a question to an app's own login service.
#[derive(Clone, Copy)]
pub(super) enum CallOutOutcome {
    /// The service said yes or no.
    Answered,
    /// It had said so of late.
    Remembered,
    /// No answer, or not in time, or something else.
    Failed,
    /// Not asked, because it has not answered of late or too many wait.
    HeldBack,
}

/// The hub's counters. All rise, except `devices_online`, `sessions_online`, `devices_automatic*`,
/// `schedules_held` and `spreads_open`.
#[derive(Debug, Default)]
pub struct HubStats {
    /// Devices with at least one session now, those being decided included.
    pub devices_online: AtomicU64,
    /// Sessions now, those being decided included; a device may have several.
    pub sessions_online: AtomicU64,
    /// Logins that were accepted.
    pub logins_accepted: AtomicU64,
    /// Logins that were refused, by [`CloseReason::index`].
    pub logins_refused: Tally,
    /// Devices that registered themselves by logging in.
    pub devices_enrolled: AtomicU64,
    /// All of them that there are, of all apps.
    pub devices_automatic: AtomicU64,
    /// Those of the app that has most: it is refused more at `auth.automatic_devices`.
    pub devices_automatic_app_max: AtomicU64,
    /// Questions to apps' own login services, by [`CALL_OUT_LABELS`].
    pub call_outs: [AtomicU64; 4],
    /// Connections displaced by a newer login.
    pub takeovers: AtomicU64,
    /// Of those, connections that went because their device had as many as it may have.
    pub displaced_at_bound: AtomicU64,
    /// Times that connections of one device displaced each other too often, so that its logins were delayed.
    pub device_id_conflicts: AtomicU64,
    /// Bad logins that were told to wait, because too many came from their address.
    pub logins_slowed: AtomicU64,
    /// Profiles that were missing in the message store and were written again from the registry.
    pub profiles_healed: AtomicU64,
    /// Acks and pulls of connections that were displaced.
    pub stale_acks: AtomicU64,
    /// Acks of deliveries that another connection of the device had ended.
    pub late_acks: AtomicU64,
    /// Ends that the store did not take: the device gets the message again.
    pub settles_failed: AtomicU64,
    /// Pages that the store did not give: the shard asks again.
    pub pages_failed: AtomicU64,
    /// Milliseconds waited for room in the queues to the shards.
    pub commands_waited: AtomicU64,
    /// Commands given up because a shard took nothing while the node was stopping.
    pub commands_dropped: AtomicU64,
    /// Stored messages accepted, by [`AUDIENCE_LABELS`].
    pub accepted: [AtomicU64; 5],
    /// Online-only messages accepted, by [`AUDIENCE_LABELS`].
    pub online_only: [AtomicU64; 5],
    /// Pushes whose key had made them before: told again.
    pub pushes_replayed: AtomicU64,
    /// Pushes refused because their key had been used for another request.
    pub keys_conflicting: AtomicU64,
    /// Pushes refused because their app had as many keys as it may have.
    pub keys_refused: AtomicU64,
    /// Changes that devices asked for of themselves, by [`OWN_LABELS`](super::border::own::OWN_LABELS).
    pub own: [AtomicU64; 5],
    /// Of those, answers for which a shard had no room: the device asks again.
    pub own_unanswered: AtomicU64,
    /// Deliveries given to sockets or outboxes.
    pub deliveries_sent: AtomicU64,
    /// Online-only deliveries dropped at a full outbox.
    pub deliveries_dropped: AtomicU64,
    /// Deliveries that devices acked.
    pub deliveries_acked: AtomicU64,
    /// Messages whose live counts were forgotten because newer ones needed the room.
    pub live_forgotten: AtomicU64,
    /// Devices' other words about messages, by [`FEEDBACK_LABELS`].
    pub feedback: [AtomicU64; 4],
    /// Words of devices about messages that were not noted: too many waited for the store.
    pub feedback_dropped: AtomicU64,
    /// Events of presence that were not written: too many waited, or the store failed.
    pub presence_dropped: AtomicU64,
    /// Requests of webhooks, by [`WEBHOOK_LABELS`].
    pub webhook_requests: [AtomicU64; 2],
    /// Events given up because their webhook had failed for a day.
    pub webhook_skipped: AtomicU64,
    /// Answers to messages of devices, by [`UPSTREAM_LABELS`].
    pub upstream: [AtomicU64; 5],
    /// Messages of devices that got no answer because their shard had no room for it; they will be sent again.
    pub upstream_unanswered: AtomicU64,
    /// Schedules that fired.
    pub schedules_fired: AtomicU64,
    /// Firings whose push was refused.
    pub schedules_failed: AtomicU64,
    /// Firings of both kinds that were late.
    pub schedules_late: AtomicU64,
    /// Firings that wait to be tried again because the store took none.
    pub schedules_held: AtomicU64,
    /// Slices of messages that are spread over time.
    pub slices_appended: AtomicU64,
    /// Messages whose spreading is not over.
    pub spreads_open: AtomicU64,
    /// Messages answered before they were stored, as their device had asked, and then not stored.
    pub upstream_lost: AtomicU64,
}

impl HubStats {
    pub(super) fn own_answered(&self, outcome: super::border::own::OwnOutcome) {
        self.own[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn login_refused(&self, reason: CloseReason) {
        self.logins_refused[reason].fetch_add(1, Relaxed);
    }

    pub(super) fn called_out(&self, outcome: CallOutOutcome) {
        self.call_outs[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn feedback_came(&self, kind: AckKind) {
        let index = match kind {
            AckKind::Received => 0,
            AckKind::Displayed => 1,
            AckKind::Clicked => 2,
            AckKind::Dismissed => 3,
        };
        self.feedback[index].fetch_add(1, Relaxed);
    }

    pub(super) fn upstream_answered(&self, outcome: ResultCode) {
        self.upstream[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn push_accepted(&self, audience: &Audience, stored: bool) {
        let index = audience.kind() as usize;
        let counters = if stored { &self.accepted } else { &self.online_only };
        counters[index].fetch_add(1, Relaxed);
    }
}
