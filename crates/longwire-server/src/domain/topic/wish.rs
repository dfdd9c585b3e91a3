//! What a session wants of one filter.

/// A subscription as stored with a kept session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicWish {
    /// The filter, `$share/{group}/` included.
    pub filter: Box<str>,
    /// Highest QoS wanted, 0 to 2.
    pub qos: u8,
    /// Not what this device publishes itself.
    pub no_local: bool,
    /// The retain flag as it was published.
    pub retain_as_published: bool,
    /// The subscription identifier; 0 = none.
    pub identifier: u32,
}
