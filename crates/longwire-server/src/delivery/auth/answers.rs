//! What the login call-out said of late. Bounded; holds no password, only a keyed hash of what was asked.

use super::call_out::{Answer, Question};
use crate::domain::Invalid;
use std::collections::HashMap;

/// Answers in each of two generations of one app; when the younger is full the older is forgotten.
const GENERATION_MAX: usize = 8192;
/// How long a yes is believed.
const ALLOW_MS: u64 = 60_000;
/// How long a no is.
const DENY_MS: u64 = 5_000;

pub(super) type AnswerKey = [u8; 32];

struct Kept {
    answer: Answer,
    until_ms: u64,
}

pub(super) struct Answers {
    secret: [u8; 32],
    young: HashMap<AnswerKey, Kept>,
    old: HashMap<AnswerKey, Kept>,
}

impl Answers {
    pub(super) fn new() -> Result<Answers, Invalid> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| {
            Invalid::new("call_out", format!("the system gives no random bytes: {error}"))
        })?;
        Ok(Answers { secret, young: HashMap::new(), old: HashMap::new() })
    }

    /// Of what identifies a client; where it comes from is not part of it.
    pub(super) fn key(&self, question: &Question<'_>) -> AnswerKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for text in [question.client_id, question.user_name, question.password] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    pub(super) fn find(&self, key: &AnswerKey, now_ms: u64) -> Option<Answer> {
        let kept = self.young.get(key).or_else(|| self.old.get(key))?;
        (now_ms < kept.until_ms).then(|| kept.answer.clone())
    }

    pub(super) fn remember(&mut self, key: AnswerKey, answer: Answer, now_ms: u64) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        let until_ms = now_ms + if answer.is_ok() { ALLOW_MS } else { DENY_MS };
        self.young.insert(key, Kept { answer, until_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longwire_proto::close::CloseReason;

    fn question<'a>(client_id: &'a str, password: &'a str) -> Question<'a> {
        let peer = "127.0.0.1:1".parse().expect("an address");
        Question { client_id, user_name: "shop", password, peer, protocol: "mqtt5" }
    }

    #[test]
    fn a_yes_is_believed_for_a_minute_and_a_no_for_five_seconds() {
        let mut answers = Answers::new().expect("random bytes");
        let (yes, no) = (answers.key(&question("a", "good")), answers.key(&question("a", "bad")));
        answers.remember(yes, Ok(None), 1_000);
        answers.remember(no, Err(CloseReason::BadToken), 1_000);
        assert_eq!(answers.find(&yes, 60_999), Some(Ok(None)));
        assert_eq!(answers.find(&yes, 61_000), None);
        assert_eq!(answers.find(&no, 5_999), Some(Err(CloseReason::BadToken)));
        assert_eq!(answers.find(&no, 6_000), None);
        assert_ne!(answers.key(&question("ag", "ood")), yes);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut answers = Answers::new().expect("random bytes");
        for number in 0..5 * GENERATION_MAX {
            let key = answers.key(&question(&number.to_string(), ""));
            answers.remember(key, Ok(None), 0);
        }
        assert!(answers.young.len() + answers.old.len() <= 2 * GENERATION_MAX);
        let last = answers.key(&question(&(5 * GENERATION_MAX - 1).to_string(), ""));
        assert_eq!(answers.find(&last, 0), Some(Ok(None)));
    }
}
