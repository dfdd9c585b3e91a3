//! What an operator or the app's owner sets for an app beside its credentials; one JSON object in its row of the registry.

use serde::{Deserialize, Serialize};

/// The settings of an app. A field that is not there has its default, so an older row reads on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSettings {
    /// Devices may bind their own alias, and add and remove their own tags and attributes.
    pub self_service: bool,
}
