//! `longwire register`.

use crate::{Failure, on_runtime};
use clap::Args;
use longwire_client::{Registration, RegistrationRequest};
use serde_json::{Value, json};

/// Where the API is and who calls.
#[derive(Args, Clone)]
pub(crate) struct ApiArgs {
    /// The API's address.
    #[arg(long, value_name = "URL", env = "LONGWIRE_API", default_value = "http://127.0.0.1:8080")]
    pub(crate) api: String,
    /// The app's key.
    #[arg(long, value_name = "KEY", env = "LONGWIRE_APP_KEY")]
    pub(crate) app_key: String,
    /// The app's secret; in the environment it does not show in the list of processes.
    #[arg(long, value_name = "SECRET", env = "LONGWIRE_APP_SECRET", hide_env_values = true)]
    pub(crate) app_secret: Option<String>,
}

impl ApiArgs {
    /// The address as a URL.
    pub(crate) fn url(&self) -> String {
        let api = self.api.trim_end_matches('/');
        if api.contains("://") { api.to_owned() } else { format!("http://{api}") }
    }

    /// The app's secret, which is needed.
    pub(crate) fn secret(&self) -> Result<&str, Failure> {
        let needed = || Failure::Usage("--app-secret or LONGWIRE_APP_SECRET is needed".into());
        self.app_secret.as_deref().ok_or_else(needed)
    }

    /// Posts a request as the app; what the API answers.
    pub(crate) fn post(&self, path: &str, request: &Value) -> Result<String, Failure> {
        self.ask(reqwest::Method::POST, path, Some(request))
    }

    /// Asks as the app; what the API answers.
    pub(crate) fn get(&self, path: &str) -> Result<String, Failure> {
        self.ask(reqwest::Method::GET, path, None)
    }

    /// Deletes as the app; what the API answers.
    pub(crate) fn delete(&self, path: &str) -> Result<String, Failure> {
        self.ask(reqwest::Method::DELETE, path, None)
    }
}

/// A device to register.
#[derive(Args)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// The device's name; without it one is issued.
    #[arg(long, value_name = "NAME")]
    pub(crate) registration_id: Option<String>,
    /// An alias for it.
    #[arg(long)]
    pub(crate) alias: Option<String>,
    /// A tag; may be repeated. All tags of the device are replaced.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// An attribute; may be repeated. All attributes of the device are replaced.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(crate) attributes: Vec<(String, String)>,
}

/// `name=value`.
pub(crate) fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl RegisterArgs {
    /// Registers it.
    pub(crate) async fn register(self) -> Result<Registration, Failure> {
        let request = RegistrationRequest {
            api: self.api.url(),
            app_key: self.api.app_key,
            app_secret: self.api.app_secret,
            registration_id: self.registration_id,
            alias: self.alias,
            tags: self.tags,
            attributes: self.attributes.into_iter().collect(),
        };
        longwire_client::register(&request).await.map_err(Failure::failed)
    }
}

/// Registers a device and prints it as one line of JSON.
pub(crate) fn run(args: RegisterArgs) -> Result<(), Failure> {
    let device = on_runtime(args.register())?;
    let line = json!({
        "registration_id": device.registration_id,
        "client_id": device.client_id.0.to_string(),
        "token": device.token,
        "expires": device.expires,
        "entry_nodes": device.entry_nodes,
    });
    println!("{line}");
    Ok(())
}
