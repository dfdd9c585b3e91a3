//! Words to a service manager that speaks systemd's notification protocol: ready, stopping, and signs of life. Without
//! one (no `NOTIFY_SOCKET`) nothing is sent.

use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Says whether the node does its work. Asked on the async runtime, so a runtime that stands still gives no sign either.
pub(super) type Healthy = Arc<dyn Fn() -> bool + Send + Sync>;

/// Signs of life in one span of the watchdog: one may be late and one lost.
const PINGS_PER_SPAN: u32 = 3;
/// Beyond the time that the node gives itself, until the manager may kill it.
const STOP_MARGIN: Duration = Duration::from_secs(15);
/// A manager that takes a word later than this is not waited for.
const TELL_MAX: Duration = Duration::from_secs(2);

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// The ports are open; with a line for people.
    Ready(String),
    /// The end has begun, and may take so long.
    Stopping(Duration),
    /// A line for people.
    Status(&'static str),
    /// The node does its work.
    Alive,
}

/// The node takes devices and requests.
pub(super) async fn ready(status: String) {
    tell_in_time(Word::Ready(status)).await;
}

/// The node ends, and has given itself so long.
pub(super) async fn stopping(patience: Duration) {
    tell_in_time(Word::Stopping(patience + STOP_MARGIN)).await;
}

/// A manager that takes nothing holds up neither start nor stop: it loses the word.
async fn tell_in_time(word: Word) {
    let _ = tokio::time::timeout(TELL_MAX, tell(word)).await;
}

/// Gives signs of life as long as the node is healthy, if the manager asked for them. Without signs it ends the process
/// (SIGABRT) and starts it again.
pub(super) fn watch(healthy: Healthy) -> Option<JoinHandle<()>> {
    let span = sd_notify::watchdog_enabled()?;
    Some(tokio::spawn(ping_while_healthy(span / PINGS_PER_SPAN, healthy, tell)))
}

async fn ping_while_healthy<Told: Future<Output = ()>>(
    period: Duration,
    healthy: Healthy,
    tell: impl Fn(Word) -> Told,
) {
    // The manager may ask for anything; a period of zero is not one.
    let mut turns = tokio::time::interval(period.max(Duration::from_millis(1)));
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_healthy = true;
    loop {
        turns.tick().await;
        let is_healthy = healthy();
        if is_healthy != was_healthy {
            let status = if is_healthy { "at work again" } else { "not healthy: no signs of life are sent" };
            if is_healthy {
                tracing::warn!("healthy again: signs of life go on");
            } else {
                tracing::error!(
                    "not healthy: the service manager gets no signs of life and will restart the node"
                );
            }
            tell(Word::Status(status)).await;
        }
        was_healthy = is_healthy;
        if is_healthy {
            tell(Word::Alive).await;
        }
    }
}

/// On a thread that may wait: the manager's socket has a queue, and a full one blocks. Signs of life wait for each other,
/// so they hold one thread at most.
async fn tell(word: Word) {
    let sent = tokio::task::spawn_blocking(move || {
        let told = match &word {
            Word::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
            Word::Stopping(patience) => {
                let patience = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
                let words = [
                    NotifyState::Stopping,
                    NotifyState::ExtendTimeoutUsec(patience),
                    NotifyState::Status("draining"),
                ];
                sd_notify::notify(&words)
            }
            Word::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        };
        if let Err(error) = told {
            tracing::warn!(%error, ?word, "the service manager cannot be told");
        }
    });
    // A runtime that is going down takes no work: then there is nobody left to tell.
    let _ = sent.await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{Healthy, Word, ping_while_healthy};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;
    use tokio::sync::mpsc;

    /// The first words when the node is healthy except in the turns of this range.
    async fn words(sick: std::ops::Range<usize>, count: usize) -> (Vec<Word>, usize) {
        let asked = Arc::new(AtomicUsize::new(0));
        let turns = asked.clone();
        let healthy: Healthy = Arc::new(move || !sick.contains(&turns.fetch_add(1, Relaxed)));
        let (sender, mut words) = mpsc::channel(1);
        let tell = move |word| {
            let sender = sender.clone();
            async move { sender.send(word).await.unwrap() }
        };
        let pings = tokio::spawn(ping_while_healthy(Duration::ZERO, healthy, tell));
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.push(words.recv().await.unwrap());
        }
        pings.abort();
        (heard, asked.load(Relaxed))
    }

    #[tokio::test]
    async fn a_healthy_node_gives_signs_of_life() {
        let (heard, _) = words(0..0, 3).await;
        assert_eq!(heard, [Word::Alive, Word::Alive, Word::Alive]);
    }

    #[tokio::test]
    async fn a_sick_node_gives_none_until_it_is_healthy_again() {
        let (heard, asked) = words(1..8, 4).await;
        let status = |text| Word::Status(text);
        let expected = [
            Word::Alive,
            status("not healthy: no signs of life are sent"),
            status("at work again"),
            Word::Alive,
        ];
        assert_eq!(heard, expected);
        assert!(asked >= 9, "{asked} turns");
    }
}
