//! When a device comes back. Pure: the attempt and the random number are arguments.

use std::time::Duration;

use longwire_proto::close::CloseReason;
use longwire_proto::wire::BackOff;

use crate::incoming::Ended;

/// REDIRECTs in a row that are followed at once; later ones wait as any failed attempt.
const REDIRECTS_AT_ONCE_MAX: u32 = 3;

/// What follows the end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Connect again after so long.
    Reconnect(Duration),
    /// The same credentials will be refused again.
    Stop(CloseReason),
}

/// The delay before reconnect number `attempt` (0 = the first since a success): the policy's step, the last one
/// repeating, plus 0 to `jitter_ms` by `random` (004-21). A policy without steps counts as 1 s.
#[must_use]
pub fn delay(policy: &BackOff, attempt: u32, random: u64) -> Duration {
    let last = policy.steps_s.len().saturating_sub(1);
    let step_s = policy.steps_s.get(last.min(attempt as usize)).copied().unwrap_or(1);
    Duration::from_secs(u64::from(step_s)) + jitter(policy, random)
}

/// What follows `ended`. The server's word goes before the policy: a longer wait is honoured, a GOAWAY and the first
/// REDIRECTs need no wait of their own, and a refusal that would come again stops the device.
#[must_use]
pub fn next(ended: &Ended, policy: &BackOff, attempt: u32, random: u64) -> Next {
    let usual = delay(policy, attempt, random);
    match ended {
        Ended::Refused(refusal) | Ended::Closed(refusal) => {
            if !refusal.reason.may_retry() {
                return Next::Stop(refusal.reason);
            }
            let asked = Duration::from_secs(u64::from(refusal.retry_after_s)) + jitter(policy, random);
            Next::Reconnect(usual.max(asked))
        }
        Ended::GoAway { wait, .. } => Next::Reconnect(*wait),
        Ended::Redirected { .. } if attempt < REDIRECTS_AT_ONCE_MAX => Next::Reconnect(Duration::ZERO),
        _ => Next::Reconnect(usual),
    }
}

fn jitter(policy: &BackOff, random: u64) -> Duration {
    Duration::from_millis(random % (u64::from(policy.jitter_ms) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longwire_proto::wire::Refusal;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_follow_each_other_and_the_last_repeats() {
        let policy = BackOff::default();
        let delays: Vec<u64> = (0..9).map(|attempt| delay(&policy, attempt, 0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 3, 5, 8, 13, 20, 20, 20]);
        assert_eq!(delay(&policy, u32::MAX, 0), 20 * SECOND);
    }

    #[test]
    fn jitter_lies_between_zero_and_its_limit_inclusive() {
        let policy = BackOff { steps_s: vec![2], jitter_ms: 10 };
        assert_eq!(delay(&policy, 0, 10), Duration::from_millis(2010));
        assert_eq!(delay(&policy, 0, 11), Duration::from_millis(2000));
        let none = BackOff { steps_s: vec![2], jitter_ms: 0 };
        assert_eq!(delay(&none, 0, u64::MAX), 2 * SECOND);
    }

    #[test]
    fn a_policy_without_steps_waits_a_second() {
        assert_eq!(delay(&BackOff { steps_s: vec![], jitter_ms: 0 }, 3, 7), SECOND);
    }

    #[test]
    fn a_longer_wait_that_the_server_asks_for_is_honoured() {
        let policy = BackOff::default();
        let full = |retry_after_s| Ended::Refused(Refusal { reason: CloseReason::Full, retry_after_s });
        assert_eq!(next(&full(60), &policy, 0, 500), Next::Reconnect(Duration::from_millis(60_500)));
        assert_eq!(next(&full(1), &policy, 4, 0), Next::Reconnect(8 * SECOND));
    }

    #[test]
    fn a_refusal_that_would_come_again_stops_the_device() {
        for reason in CloseReason::ALL {
            let ended = Ended::Closed(Refusal { reason, retry_after_s: 0 });
            let stops = next(&ended, &BackOff::default(), 0, 0) == Next::Stop(reason);
            assert_eq!(stops, !reason.may_retry(), "{reason:?}");
        }
    }

    #[test]
    fn redirects_are_followed_at_once_but_not_for_ever() {
        let ended = Ended::Redirected { to: "b:1".into() };
        let policy = BackOff::default();
        assert_eq!(next(&ended, &policy, 0, 0), Next::Reconnect(Duration::ZERO));
        assert_eq!(next(&ended, &policy, 3, 0), Next::Reconnect(5 * SECOND));
    }

    #[test]
    fn goaway_decides_the_wait_itself() {
        let ended = Ended::GoAway { wait: 7 * SECOND, to: String::new() };
        assert_eq!(next(&ended, &BackOff::default(), 5, 999), Next::Reconnect(7 * SECOND));
    }
}
