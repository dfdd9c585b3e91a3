//! What each endpoint asks of its caller: a scope of an app's key, or a role of an operator. What is not here is open to nobody
//! but an app's secret and the first admin key; a test compares this with the contract.

use crate::domain::people::{Role, Scope};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What an endpoint asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) enum Need {
    /// Nothing.
    Nothing,
    /// An app's secret, or a key of it with this scope.
    App(Scope),
    /// An operator of this role or more.
    Operator(Role),
}

use Need::{App, Nothing, Operator};
use Role::{Admin, Operator as Hand, Viewer};
use Scope::{Devices, MessagesRead, Push, Receipts, Schedules, Tags, Upstream};

/// Method, path as the contract has it, and what is asked.
pub(in crate::api) const NEEDS: &[(&str, &str, Need)] = &[
    ("GET", "/healthz", Nothing),
    ("GET", "/readyz", Nothing),
    ("GET", "/metrics", Nothing),
    ("GET", "/openapi.json", Nothing),
    ("POST", "/v1/push", App(Push)),
    ("POST", "/v1/push/batch", App(Push)),
    ("POST", "/v1/publish", App(Push)),
    ("GET", "/v1/retained", App(Push)),
    ("DELETE", "/v1/retained", App(Push)),
    ("GET", "/v1/messages/{msg_id}", App(MessagesRead)),
    ("PATCH", "/v1/messages/{msg_id}", App(Push)),
    ("DELETE", "/v1/messages/{msg_id}", App(Push)),
    ("GET", "/v1/messages/{msg_id}/targets", App(MessagesRead)),
    ("GET", "/v1/messages/{msg_id}/explain/{registration_id}", App(MessagesRead)),
    ("GET", "/v1/books", App(MessagesRead)),
    ("GET", "/v1/devices", App(Devices)),
    ("POST", "/v1/devices", App(Devices)),
    ("POST", "/v1/devices/status", App(Devices)),
    ("GET", "/v1/devices/{registration_id}", App(Devices)),
    ("POST", "/v1/devices/{registration_id}", App(Devices)),
    ("DELETE", "/v1/devices/{registration_id}", App(Devices)),
    ("POST", "/v1/devices/{registration_id}/disconnect", App(Devices)),
    ("POST", "/v1/devices/{registration_id}/revoke", App(Devices)),
    ("GET", "/v1/aliases/{alias}", App(Tags)),
    ("DELETE", "/v1/aliases/{alias}", App(Tags)),
    ("GET", "/v1/tags", App(Tags)),
    ("GET", "/v1/tags/{tag}", App(Tags)),
    ("POST", "/v1/tags/{tag}", App(Tags)),
    ("DELETE", "/v1/tags/{tag}", App(Tags)),
    ("GET", "/v1/schedules", App(Schedules)),
    ("POST", "/v1/schedules", App(Schedules)),
    ("GET", "/v1/schedules/{schedule_id}", App(Schedules)),
    ("PATCH", "/v1/schedules/{schedule_id}", App(Schedules)),
    ("PUT", "/v1/schedules/{schedule_id}", App(Schedules)),
    ("DELETE", "/v1/schedules/{schedule_id}", App(Schedules)),
    ("GET", "/v1/receipts", App(Receipts)),
    ("GET", "/v1/receipts/stream", App(Receipts)),
    ("GET", "/v1/presence/events", App(Receipts)),
    ("GET", "/v1/presence/stream", App(Receipts)),
    ("GET", "/v1/webhooks", App(Receipts)),
    ("PUT", "/v1/webhooks/{webhook_id}", App(Receipts)),
    ("DELETE", "/v1/webhooks/{webhook_id}", App(Receipts)),
    ("POST", "/v1/webhooks/{webhook_id}/test", App(Receipts)),
    ("GET", "/v1/upstream", App(Upstream)),
    ("POST", "/v1/upstream/ack", App(Upstream)),
    ("GET", "/v1/quotas", App(Scope::Admin)),
    ("PUT", "/v1/quotas", Operator(Admin)),
    ("GET", "/v1/keys", App(Scope::Admin)),
    ("POST", "/v1/keys", App(Scope::Admin)),
    ("DELETE", "/v1/keys/{key_id}", App(Scope::Admin)),
    ("GET", "/v1/apps", Operator(Viewer)),
    ("POST", "/v1/apps", Operator(Admin)),
    ("GET", "/v1/apps/{app_key}", Operator(Viewer)),
    ("PATCH", "/v1/apps/{app_key}", Operator(Admin)),
    ("DELETE", "/v1/apps/{app_key}", Operator(Admin)),
    ("POST", "/v1/apps/{app_key}/rotate_secret", Operator(Admin)),
    ("POST", "/v1/apps/{app_key}/disable", Operator(Hand)),
    ("POST", "/v1/apps/{app_key}/enable", Operator(Hand)),
    ("GET", "/v1/admin/keys", Operator(Admin)),
    ("POST", "/v1/admin/keys", Operator(Admin)),
    ("DELETE", "/v1/admin/keys/{key_id}", Operator(Admin)),
    ("GET", "/v1/admin/audit", Operator(Viewer)),
    ("GET", "/v1/admin/memory", Operator(Viewer)),
    ("GET", "/v1/admin/shards", Operator(Viewer)),
    ("POST", "/v1/admin/drain", Operator(Hand)),
    ("POST", "/v1/admin/reload", Operator(Hand)),
    ("PUT", "/v1/admin/apps/{app_key}/duplicate_login", Operator(Admin)),
    ("PUT", "/v1/admin/apps/{app_key}/heartbeat", Operator(Admin)),
    ("PUT", "/v1/admin/apps/{app_key}/login_ways", Operator(Admin)),
    ("PUT", "/v1/admin/apps/{app_key}/topic_rules", Operator(Admin)),
    ("PUT", "/v1/admin/apps/{app_key}/streams", Operator(Admin)),
    ("PUT", "/v1/admin/apps/{app_key}/frequency_cap", Operator(Admin)),
];

/// What an endpoint asks; `None`: it is not said.
pub(in crate::api) fn need(method: &str, path: &str) -> Option<Need> {
    static BY_PATH: LazyLock<HashMap<(&str, &str), Need>> =
        LazyLock::new(|| NEEDS.iter().map(|(method, path, need)| ((*method, *path), *need)).collect());
    BY_PATH.get(&(method, path)).copied()
}

impl Need {
    /// The act is written into the audit log: what operators do, and what changes an app itself.
    pub(in crate::api) fn is_audited(self, method: &str) -> bool {
        let changes = !matches!(method, "GET" | "HEAD");
        changes && matches!(self, Need::Operator(_) | Need::App(Scope::Admin))
    }
}
