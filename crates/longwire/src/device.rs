//! `longwire device`.

use crate::Failure;
use crate::call::{PageArgs, segment};
use crate::register::{ApiArgs, attribute};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

/// Devices of the app, by the API; what it answers is printed.
#[derive(Args)]
pub(crate) struct DeviceArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    verb: DeviceVerb,
}

#[derive(Subcommand)]
enum DeviceVerb {
    /// All devices, a page at a time.
    List(PageArgs),
    /// One device: what it has, whether it is connected, what waits for it.
    Show(Name),
    /// Change tags, alias and attributes; what is not given stays.
    Set(SetArgs),
    /// Whether devices are connected, since when, and how.
    Status {
        /// Devices by name.
        #[arg(value_name = "NAME", required = true, num_args = 1..=1000)]
        names: Vec<String>,
    },
    /// End its connections; it may come back.
    Disconnect(Name),
    /// Make its tokens good no more, and end its connections.
    Revoke(Name),
    /// Remove it for good; what waits for it is dropped.
    Remove(Name),
}

#[derive(Args)]
struct Name {
    /// The device's name.
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Args)]
struct SetArgs {
    /// The device's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Give it this tag; may be repeated.
    #[arg(long, value_name = "TAG")]
    add_tag: Vec<String>,
    /// Take this tag from it; may be repeated.
    #[arg(long, value_name = "TAG")]
    remove_tag: Vec<String>,
    /// Its alias from now on.
    #[arg(long)]
    alias: Option<String>,
    /// It has no alias from now on.
    #[arg(long, conflicts_with = "alias")]
    no_alias: bool,
    /// Set an attribute; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// Take this attribute from it; may be repeated.
    #[arg(long, value_name = "NAME")]
    remove_attribute: Vec<String>,
}

impl SetArgs {
    fn request(self) -> Value {
        let mut request = Map::new();
        request.insert("tags".into(), json!({ "add": self.add_tag, "remove": self.remove_tag }));
        let set: Map<String, Value> =
            self.attribute.into_iter().map(|(name, value)| (name, value.into())).collect();
        request.insert("attributes".into(), json!({ "set": set, "remove": self.remove_attribute }));
        if self.alias.is_some() || self.no_alias {
            request.insert("alias".into(), json!(self.alias));
        }
        Value::Object(request)
    }
}

/// Calls the API.
pub(crate) fn run(args: DeviceArgs) -> Result<(), Failure> {
    let DeviceArgs { api, verb } = args;
    let of = |name: &str, verb: &str| format!("/v1/devices/{}{verb}", segment(name));
    match verb {
        DeviceVerb::List(page) => api.call(Method::GET, &format!("/v1/devices{}", page.query()), None),
        DeviceVerb::Show(Name { name }) => api.call(Method::GET, &of(&name, ""), None),
        DeviceVerb::Set(set) => api.call(Method::POST, &of(&set.name, ""), Some(&set.request())),
        DeviceVerb::Status { names } => {
            api.call(Method::POST, "/v1/devices/status", Some(&json!({ "registration_ids": names })))
        }
        DeviceVerb::Disconnect(Name { name }) => api.call(Method::POST, &of(&name, "/disconnect"), None),
        DeviceVerb::Revoke(Name { name }) => api.call(Method::POST, &of(&name, "/revoke"), None),
        DeviceVerb::Remove(Name { name }) => api.call(Method::DELETE, &of(&name, ""), None),
    }
}
