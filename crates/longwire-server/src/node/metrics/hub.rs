//! The hub's numbers.

use super::Page;
use crate::delivery::border::own::OWN_LABELS;
use crate::delivery::{
    AUDIENCE_LABELS, CALL_OUT_LABELS, FEEDBACK_LABELS, HubStats, UPSTREAM_LABELS, WEBHOOK_LABELS,
};
use longwire_proto::close::CloseReason;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(super) fn hub(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    present(page, hub)?;
    page.counter("longwire_logins", "logins accepted", hub.logins_accepted.load(Relaxed))?;
    let refused: Vec<_> = CloseReason::ALL
        .iter()
        .filter(|reason| is_refusal(**reason))
        .map(|reason| ([("reason", reason.label())], hub.logins_refused[*reason].load(Relaxed)))
        .collect();
    page.counters("longwire_logins_refused", "logins refused", &refused)?;
    let text = ["longwire_messages_accepted", "stored messages accepted"];
    by_label(page, "audience", text, &AUDIENCE_LABELS, &hub.accepted)?;
    let text = ["longwire_messages_online_only", "online-only messages accepted"];
    by_label(page, "audience", text, &AUDIENCE_LABELS, &hub.online_only)?;
    said_by_devices(page, hub)?;
    truth(page, hub)?;
    let text = ["longwire_login_call_outs", "questions to apps' own login services"];
    by_label(page, "outcome", text, &CALL_OUT_LABELS, &hub.call_outs)?;
    let counters = [
        ("longwire_upstream_unanswered", "messages of devices without an answer", &hub.upstream_unanswered),
        ("longwire_upstream_lost", "messages answered before storing, then not stored", &hub.upstream_lost),
        ("longwire_takeovers", "connections displaced by a newer login", &hub.takeovers),
        (
            "longwire_displaced_at_bound",
            "displaced connections of devices that had as many as they may have",
            &hub.displaced_at_bound,
        ),
        (
            "longwire_device_id_conflicts",
            "times that devices with one id displaced each other too often",
            &hub.device_id_conflicts,
        ),
        ("longwire_logins_slowed", "bad logins told to wait, too many from an address", &hub.logins_slowed),
        ("longwire_profiles_healed", "profiles written again from the registry", &hub.profiles_healed),
        ("longwire_stale_acks", "acks of connections that were displaced", &hub.stale_acks),
        ("longwire_late_acks", "acks of what another connection of the device ended", &hub.late_acks),
        ("longwire_settles_failed", "ends that the store did not take", &hub.settles_failed),
        ("longwire_pages_failed", "pages that the store did not give", &hub.pages_failed),
        (
            "longwire_devices_enrolled",
            "devices that registered themselves by logging in",
            &hub.devices_enrolled,
        ),
        ("longwire_commands_waited_ms", "milliseconds waited for room to shards", &hub.commands_waited),
        ("longwire_commands_dropped", "commands given up while stopping", &hub.commands_dropped),
        ("longwire_live_counts_forgotten", "messages whose live counts were forgotten", &hub.live_forgotten),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    push_keys(page, hub)?;
    over_time(page, hub)
}

/// Callers' keys of pushes.
fn push_keys(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    let counters = [
        ("longwire_pushes_replayed", "pushes told again: their keys had made them", &hub.pushes_replayed),
        ("longwire_push_keys_conflicting", "pushes with a key of another request", &hub.keys_conflicting),
        ("longwire_push_keys_refused", "pushes refused, the app had too many keys", &hub.keys_refused),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    Ok(())
}

/// Schedules, and messages that are spread.
fn over_time(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    for (name, help, counter) in [
        ("longwire_schedules_fired", "firings of schedules that made a message", &hub.schedules_fired),
        ("longwire_schedules_failed", "firings of schedules whose push was refused", &hub.schedules_failed),
        ("longwire_schedules_late", "firings of schedules after their time", &hub.schedules_late),
        ("longwire_slices_appended", "slices of messages that are spread", &hub.slices_appended),
    ] {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    page.gauge(
        "longwire_schedules_held",
        "firings that wait to be tried again",
        hub.schedules_held.load(Relaxed),
    )?;
    page.gauge(
        "longwire_spreads_open",
        "messages whose spreading is not over",
        hub.spreads_open.load(Relaxed),
    )
}

/// The reasons for which a login, rather than a session, ends; the others would be series of zeros.
fn is_refusal(reason: CloseReason) -> bool {
    use CloseReason as R;
    matches!(
        reason,
        R::UnknownApp
            | R::BadToken
            | R::ExpiredToken
            | R::RevokedToken
            | R::BadClientId
            | R::DeviceQuota
            | R::WrongClientId
            | R::AlreadyConnected
            | R::Conflict
            | R::Draining
            | R::Full
            | R::StoreUnavailable
            | R::AuthUnavailable
            | R::Internal
    )
}

pub(super) fn by_label(
    page: &mut Page<'_>,
    label: &'static str,
    [name, help]: [&str; 2],
    words: &[&'static str],
    counters: &[AtomicU64],
) -> fmt::Result {
    let values: Vec<_> =
        words.iter().zip(counters).map(|(word, n)| ([(label, *word)], n.load(Relaxed))).collect();
    page.counters(name, help, &values)
}

/// Who is there.
fn present(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    page.gauge(
        "longwire_devices_online",
        "devices with a session or more",
        hub.devices_online.load(Relaxed),
    )?;
    let sessions = hub.sessions_online.load(Relaxed);
    page.gauge("longwire_sessions_online", "sessions of devices; a device may have several", sessions)?;
    let automatic = hub.devices_automatic.load(Relaxed);
    page.gauge("longwire_devices_automatic", "devices that registered themselves, of all apps", automatic)?;
    page.gauge(
        "longwire_devices_automatic_app_max",
        "those of the app that has most; at auth.automatic_devices new ones are refused",
        hub.devices_automatic_app_max.load(Relaxed),
    )
}

fn truth(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    let text = ["longwire_webhook_requests", "requests of webhooks"];
    by_label(page, "result", text, &WEBHOOK_LABELS, &hub.webhook_requests)?;
    let counters = [
        ("longwire_feedback_dropped", "words of devices dropped at a full queue", &hub.feedback_dropped),
        ("longwire_presence_dropped", "events of presence that were not written", &hub.presence_dropped),
        ("longwire_webhook_skipped", "events given up after a day of failing", &hub.webhook_skipped),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    Ok(())
}

fn said_by_devices(page: &mut Page<'_>, hub: &HubStats) -> fmt::Result {
    by_label(page, "kind", ["longwire_feedback", "what devices said"], &FEEDBACK_LABELS, &hub.feedback)?;
    let text = ["longwire_upstream_answers", "answers to messages of devices"];
    by_label(page, "result", text, &UPSTREAM_LABELS, &hub.upstream)?;
    let text = ["longwire_self_service", "changes that devices asked for of themselves"];
    by_label(page, "result", text, &OWN_LABELS, &hub.own)?;
    let text = "changes that devices asked for without an answer";
    page.counter("longwire_self_service_unanswered", text, hub.own_unanswered.load(Relaxed))
}
