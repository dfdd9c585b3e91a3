//! Lines of the audit log: each holds the hash of the one before, so that a line cannot be changed, put in or taken out of the
//! middle without all that follow it being made anew.

use super::WallMs;

/// What is told of an act.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditEntry {
    /// When, see [`WallMs`].
    pub at: WallMs,
    /// Who: the name of a key, and whose it is.
    pub who: String,
    /// What: method and path as the contract has it.
    pub act: String,
    /// On what: the path as it was asked for.
    pub target: String,
    /// `asked` before the act; the status of its answer after it.
    pub outcome: String,
    /// From where.
    pub remote: String,
    /// The request's trace.
    pub trace: String,
}

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditLine {
    /// Its number, from 1.
    pub number: u64,
    /// What is told.
    pub entry: AuditEntry,
    /// The hash of the line before; zeros before the first.
    pub previous: [u8; 32],
    /// See [`AuditLine::seal`].
    pub hash: [u8; 32],
}

impl AuditLine {
    /// The line after another, sealed.
    #[must_use]
    pub fn after(number: u64, previous: [u8; 32], entry: AuditEntry) -> AuditLine {
        let hash = AuditLine::seal(number, &previous, &entry);
        AuditLine { number, entry, previous, hash }
    }

    /// BLAKE3 of: the hash before (32 bytes), number and time (8 bytes each, big-endian), then each text of the entry in the order of
    /// its fields, with its length in front (4 bytes, big-endian).
    #[must_use]
    pub fn seal(number: u64, previous: &[u8; 32], entry: &AuditEntry) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(previous).update(&number.to_be_bytes()).update(&entry.at.0.to_be_bytes());
        let AuditEntry { at: _, who, act, target, outcome, remote, trace } = entry;
        for text in [who, act, target, outcome, remote, trace] {
            hasher.update(&(text.len() as u32).to_be_bytes()).update(text.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Whether it says what was sealed, after a line of this number and hash.
    #[must_use]
    pub fn follows(&self, number: u64, hash: &[u8; 32]) -> bool {
        self.number == number + 1
            && self.previous == *hash
            && self.hash == AuditLine::seal(self.number, &self.previous, &self.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_field_breaks_the_seal() {
        let entry = AuditEntry { at: WallMs(7), who: "a".into(), act: "b".into(), ..AuditEntry::default() };
        let line = AuditLine::after(3, [1; 32], entry);
        assert!(line.follows(2, &[1; 32]));
        assert!(!line.follows(3, &[1; 32]) && !line.follows(2, &[2; 32]));
        let altered: [fn(&mut AuditLine); 9] = [
            |line| line.number = 4,
            |line| line.entry.at = WallMs(8),
            |line| line.entry.who = "ab".into(),
            |line| line.entry.act = String::new(),
            |line| line.entry.target.push('x'),
            |line| line.entry.outcome.push('x'),
            |line| line.entry.remote.push('x'),
            |line| line.entry.trace.push('x'),
            |line| line.hash[0] ^= 1,
        ];
        for alter in altered {
            let mut line = line.clone();
            alter(&mut line);
            assert!(!line.follows(line.number - 1, &[1; 32]), "{line:?}");
        }
        // What moves from one text to the next is another line.
        let (mut moved, number) = (line.clone(), line.number);
        moved.entry.who = "ab".into();
        moved.entry.act = String::new();
        assert!(!moved.follows(number - 1, &[1; 32]));
    }
}
