//! One setting: what it may hold, its default, and how it is told.

/// What a setting may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number in this range, both ends included.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// `ip:port`; port 0 lets the kernel choose.
    Address,
    /// The same, or nothing.
    AddressOrNone,
    /// Text of at most so many bytes.
    Text {
        /// The most bytes.
        max: usize,
    },
    /// Words with spaces between, or an array of them, at most so many bytes.
    Words {
        /// The most bytes.
        max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A setting's default.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// A number.
    Integer(u64),
    /// A switch.
    Switch(bool),
    /// Text, an address or a word.
    Text(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Section and name, joined by dots.
    pub key: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What it is counted in; empty where there is no unit.
    pub unit: &'static str,
    /// What holds when nothing is said.
    pub fallback: Fallback,
    /// Never printed.
    pub secret: bool,
    /// What it does, and what happens at its limit.
    pub doc: &'static str,
}

pub(super) const fn integer(
    key: &'static str,
    fallback: u64,
    unit: &'static str,
    min: u64,
    max: u64,
    doc: &'static str,
) -> Setting {
    Setting {
        key,
        kind: Kind::Integer { min, max },
        unit,
        fallback: Fallback::Integer(fallback),
        secret: false,
        doc,
    }
}

pub(super) const fn switch(key: &'static str, doc: &'static str) -> Setting {
    Setting { key, kind: Kind::Switch, unit: "", fallback: Fallback::Switch(false), secret: false, doc }
}

pub(super) const fn text(
    key: &'static str,
    kind: Kind,
    fallback: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { key, kind, unit: "", fallback: Fallback::Text(fallback), secret: false, doc }
}

/// Where a listener besides the first listens.
pub(super) const fn further_bind(key: &'static str, doc: &'static str) -> Setting {
    text(key, Kind::AddressOrNone, "", doc)
}

/// What it takes.
pub(super) const fn further_accept(key: &'static str, fallback: &'static str) -> Setting {
    let doc = "What devices may speak there, in the words of `listener.device.accept`.";
    text(key, Kind::Words { max: 64 }, fallback, doc)
}

/// Who must introduce its devices there.
pub(super) const fn further_proxies(key: &'static str) -> Setting {
    text(
        key,
        Kind::Words { max: 4096 },
        "",
        "Load balancers in front of it, as `listener.device.proxy_from`.",
    )
}

/// Whether it may be open to others without TLS.
pub(super) const fn further_plaintext(key: &'static str) -> Setting {
    switch(key, "As `listener.device.insecure_plaintext`, for this listener.")
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn env(&self) -> String {
        format!("LONGWIRE_{}", self.key.replace('.', "__").to_uppercase())
    }

    /// What it may hold, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Integer { min, max } => format!("{min} to {max}"),
            Kind::Switch => "true or false".into(),
            Kind::Address => "ip:port".into(),
            Kind::AddressOrNone => "ip:port, or empty".into(),
            Kind::Text { max } => format!("text, at most {max} bytes"),
            Kind::Words { max } => format!("words, at most {max} bytes"),
            Kind::Choice(words) => words.join(", "),
        }
    }
}
