//! Faults that a build for tests can be told to have, one at a time, so that the checker of histories is seen to find each.
//! Without the feature `planted-faults` none of it is in the binary.

/// A broken promise, planted where it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The 202 leaves before the commit.
    AnswersBeforeCommit,
    /// One push in eight is answered 503 after it was stored.
    RefusesWhatItStored,
    /// The numbers of a mailbox begin again after a restart.
    RenumbersAfterRestart,
    /// What waits in a mailbox is not looked for at login.
    ForgetsMailboxAtLogin,
    /// A login begins at the log's head.
    ForgetsLogAtLogin,
    /// The filter is not asked for devices that return.
    IgnoresFilterOnReturn,
    /// Deliveries expire a second and a half early.
    ExpiresEarly,
    /// What was left out is not announced.
    HidesGaps,
    /// Every eighth delivery is sent twice in its session.
    SendsTwice,
    /// One delivery in sixteen carries another's content.
    SwapsContent,
    /// An ack ends the oldest delivery of the window, whichever it names.
    AckEndsOldest,
    /// An ack ends everything in the window.
    AckEndsAll,
    /// One end in eight is not recorded.
    LosesEnds,
    /// One end in eight is counted twice.
    CountsTwice,
    /// A newer login leaves the older connection open.
    KeepsDisplaced,
    /// A replaced message is sent all the same.
    SendsReplaced,
    /// A recalled message is sent all the same.
    SendsRecalled,
    /// A recall ends deliveries and does not count them.
    RecallsUncounted,
    /// The caller's keys are forgotten at the start.
    ForgetsCallersKeys,
    /// A push that no mailbox had room for is answered 202.
    AcceptsWhatItRefused,
    /// A full mailbox loses its oldest message without a word.
    DropsOldest,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 21] = [
        Fault::AnswersBeforeCommit,
        Fault::RefusesWhatItStored,
        Fault::RenumbersAfterRestart,
        Fault::ForgetsMailboxAtLogin,
        Fault::ForgetsLogAtLogin,
        Fault::IgnoresFilterOnReturn,
        Fault::ExpiresEarly,
        Fault::HidesGaps,
        Fault::SendsTwice,
        Fault::SwapsContent,
        Fault::AckEndsOldest,
        Fault::AckEndsAll,
        Fault::LosesEnds,
        Fault::CountsTwice,
        Fault::KeepsDisplaced,
        Fault::SendsReplaced,
        Fault::SendsRecalled,
        Fault::RecallsUncounted,
        Fault::ForgetsCallersKeys,
        Fault::AcceptsWhatItRefused,
        Fault::DropsOldest,
    ];
}

/// The variable of the environment that names the fault.
pub const VARIABLE: &str = "PLANTED_FAULT";

/// Whether this process has the fault.
#[cfg(feature = "planted-faults")]
#[must_use]
pub fn planted(fault: Fault) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<Fault>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok()?;
        Some(Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name).expect("the name of a fault"))
    });
    *chosen == Some(fault)
}

/// Whether this process has the fault: never, in a build without the feature.
#[cfg(not(feature = "planted-faults"))]
#[must_use]
pub const fn planted(_fault: Fault) -> bool {
    false
}

/// Whether this process has the fault, and this is one of the times, one in `times`, at which it shows.
#[must_use]
pub fn planted_in(fault: Fault, times: u64) -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    planted(fault) && COUNT.fetch_add(1, Ordering::Relaxed) % times == times - 1
}
