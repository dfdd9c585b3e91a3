//! `longwire app`, `longwire key`, `longwire quota`, `longwire audit`: apps and people, through the API.

use crate::{Failure, on_runtime};
use clap::{Args, Subcommand};
use longwire_server::domain::WallMs;
use longwire_server::domain::audit::{AuditEntry, AuditLine};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of the audit log that are read together.
const LINES_TOGETHER: u16 = 1000;

/// Where the API is and which operator calls.
#[derive(Args, Clone)]
pub(crate) struct AdminArgs {
    /// The API's address.
    #[arg(long, value_name = "URL", env = "LONGWIRE_API", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// An admin key; in the environment it does not show in the list of processes.
    #[arg(long, value_name = "KEY", env = "LONGWIRE_ADMIN_KEY", hide_env_values = true)]
    admin_key: String,
}

impl AdminArgs {
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<String, Failure> {
        let api = self.api.trim_end_matches('/');
        let url = if api.contains("://") { format!("{api}{path}") } else { format!("http://{api}{path}") };
        on_runtime(async {
            let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build();
            let call = client.map_err(Failure::failed)?.request(method, url).bearer_auth(&self.admin_key);
            let call = if let Some(body) = body { call.json(body) } else { call };
            let response = call.send().await.map_err(Failure::failed)?;
            let status = response.status();
            let text = response.text().await.map_err(Failure::failed)?;
            if status.is_success() {
                Ok(text)
            } else {
                Err(Failure::failed(format!("refused with {status}: {text}")))
            }
        })
    }

    /// Asks as the operator, and prints what is answered.
    pub(crate) fn show(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), Failure> {
        println!("{}", self.ask(method, path, body)?.trim_end());
        Ok(())
    }
}

/// A part of a list.
#[derive(Args)]
pub(crate) struct PageArgs {
    /// The `next` of the page before.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Items at most.
    #[arg(long, default_value_t = 100)]
    limit: u16,
}

impl PageArgs {
    /// The path with its query. A cursor is of letters, digits, - and _ only; another one is the server's to refuse.
    fn of(&self, path: &str) -> String {
        let after = self.after.as_deref().map(|after| format!("&after={after}")).unwrap_or_default();
        format!("{path}?limit={}{after}", self.limit)
    }
}

/// What can be done with apps.
#[derive(Args)]
pub(crate) struct AppArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    verb: AppVerb,
}

#[derive(Subcommand)]
enum AppVerb {
    /// Make an app; its secret is printed once.
    Create(AppSettings),
    /// List apps.
    List(PageArgs),
    /// Show an app.
    Show(AppName),
    /// Change an app's settings; what is not given stays.
    Set(AppSettings),
    /// Give an app a new secret, printed once.
    Rotate {
        #[command(flatten)]
        app: AppName,
        /// The secret before stays good for so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
    },
    /// Take an app out of service.
    Disable(AppName),
    /// Take it into service again.
    Enable(AppName),
    /// Take a disabled app without devices out.
    Remove(AppName),
}

/// Which app.
#[derive(Args)]
pub(crate) struct AppName {
    /// The app's key.
    #[arg(value_name = "APP_KEY")]
    app: String,
}

/// What is set.
#[derive(Args)]
pub(crate) struct AppSettings {
    #[command(flatten)]
    app: AppName,
    /// What it is called.
    #[arg(long)]
    name: Option<String>,
    /// Devices may register with the app key alone.
    #[arg(long, value_name = "BOOL")]
    open_registration: Option<bool>,
    /// Devices may change their own alias, tags and attributes.
    #[arg(long, value_name = "BOOL")]
    self_service: Option<bool>,
}

impl AppSettings {
    fn fields(&self) -> Map<String, Value> {
        let fields = [
            ("name", self.name.clone().map(Value::from)),
            ("open_registration", self.open_registration.map(Value::from)),
            ("self_service", self.self_service.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Keys of operators.
#[derive(Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    verb: KeyVerb,
}

#[derive(Subcommand)]
enum KeyVerb {
    /// Make a key for an operator; it is printed once.
    Create {
        /// Whose it is.
        #[arg(long)]
        name: String,
        /// viewer, operator or admin.
        #[arg(long)]
        role: String,
        /// It ends after so many seconds.
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
    },
    /// List the keys of operators.
    List(PageArgs),
    /// Revoke a key, at once.
    Revoke {
        /// Its id.
        id: String,
    },
}

/// Quotas of an app.
#[derive(Args)]
pub(crate) struct QuotaArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    verb: QuotaVerb,
}

#[derive(Subcommand)]
enum QuotaVerb {
    /// Show the quotas of an app that are its own.
    Show(AppName),
    /// Set all quotas of an app; what is not given is as the node is configured, 0 is without a limit.
    Set(Quotas),
}

/// All quotas.
#[derive(Args)]
pub(crate) struct Quotas {
    #[command(flatten)]
    app: AppName,
    /// Logged-in connections at once.
    #[arg(long)]
    connections: Option<u64>,
    /// Registered devices.
    #[arg(long)]
    devices: Option<u64>,
    /// Bytes of messages stored for devices, each message once.
    #[arg(long)]
    stored_bytes: Option<u64>,
    /// Requests per second.
    #[arg(long)]
    requests_per_s: Option<u64>,
    /// Messages per second.
    #[arg(long)]
    messages_per_s: Option<u64>,
    /// Messages per minute for all devices, or by tags and conditions.
    #[arg(long)]
    broadcasts_per_min: Option<u64>,
}

/// What administrators did.
#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    verb: AuditVerb,
}

#[derive(Subcommand)]
enum AuditVerb {
    /// List lines of the log.
    List(PageArgs),
    /// Read the whole log and check that each line follows the one before it; prints the hash of the last one.
    Verify {
        /// A hash that the log had as its last at some time: it must still be in it, or lines were cut off at the end.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

/// Path segments are what the server takes as keys and ids: letters, digits, `.`, `_` and `-`.
fn segment(text: &str) -> Result<&str, Failure> {
    let clean = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if clean && !text.is_empty() && !matches!(text, "." | "..") {
        Ok(text)
    } else {
        Err(Failure::Usage(format!("{text:?} is no key or id")))
    }
}

pub(crate) fn app(args: &AppArgs) -> Result<(), Failure> {
    let admin = &args.admin;
    let path = |app: &AppName, act: &str| Ok::<_, Failure>(format!("/v1/apps/{}{act}", segment(&app.app)?));
    match &args.verb {
        AppVerb::Create(settings) => {
            let mut fields = settings.fields();
            fields.insert("app_key".to_owned(), json!(settings.app.app));
            admin.show(Method::POST, "/v1/apps", Some(&Value::Object(fields)))
        }
        AppVerb::List(page) => admin.show(Method::GET, &page.of("/v1/apps"), None),
        AppVerb::Show(app) => admin.show(Method::GET, &path(app, "")?, None),
        AppVerb::Set(settings) => {
            let fields = Value::Object(settings.fields());
            admin.show(Method::PATCH, &path(&settings.app, "")?, Some(&fields))
        }
        AppVerb::Rotate { app, grace } => {
            admin.show(Method::POST, &path(app, "/rotate_secret")?, Some(&json!({ "grace_s": grace })))
        }
        AppVerb::Disable(app) => admin.show(Method::POST, &path(app, "/disable")?, None),
        AppVerb::Enable(app) => admin.show(Method::POST, &path(app, "/enable")?, None),
        AppVerb::Remove(app) => admin.ask(Method::DELETE, &path(app, "")?, None).map(drop),
    }
}

pub(crate) fn key(args: &KeyArgs) -> Result<(), Failure> {
    let admin = &args.admin;
    match &args.verb {
        KeyVerb::Create { name, role, expires_in } => {
            let body = json!({ "name": name, "role": role, "expires_in_s": expires_in });
            admin.show(Method::POST, "/v1/admin/keys", Some(&body))
        }
        KeyVerb::List(page) => admin.show(Method::GET, &page.of("/v1/admin/keys"), None),
        KeyVerb::Revoke { id } => {
            admin.ask(Method::DELETE, &format!("/v1/admin/keys/{}", segment(id)?), None).map(drop)
        }
    }
}

pub(crate) fn quota(args: &QuotaArgs) -> Result<(), Failure> {
    match &args.verb {
        QuotaVerb::Show(app) => {
            let path = format!("/v1/apps/{}", segment(&app.app)?);
            let app = read(&args.admin.ask(Method::GET, &path, None)?)?;
            println!("{}", app["quotas"]);
            Ok(())
        }
        QuotaVerb::Set(quotas) => {
            let body = json!({ "app_key": quotas.app.app, "quotas": {
                "connections": quotas.connections,
                "devices": quotas.devices,
                "stored_bytes": quotas.stored_bytes,
                "requests_per_s": quotas.requests_per_s,
                "messages_per_s": quotas.messages_per_s,
                "broadcasts_per_min": quotas.broadcasts_per_min,
            }});
            args.admin.show(Method::PUT, "/v1/quotas", Some(&body))
        }
    }
}

pub(crate) fn audit(args: &AuditArgs) -> Result<(), Failure> {
    match &args.verb {
        AuditVerb::List(page) => args.admin.show(Method::GET, &page.of("/v1/admin/audit"), None),
        AuditVerb::Verify { head } => verify(&args.admin, head.as_deref()),
    }
}

/// The oldest lines may have gone because there were too many: the first that is left is where the chain begins.
fn verify(admin: &AdminArgs, head: Option<&str>) -> Result<(), Failure> {
    let mut page = PageArgs { after: None, limit: LINES_TOGETHER };
    let mut last: Option<(u64, [u8; 32])> = None;
    let (mut lines, mut head_found) = (0_u64, head.is_none());
    loop {
        let answer = read(&admin.ask(Method::GET, &page.of("/v1/admin/audit"), None)?)?;
        for told in answer["lines"].as_array().into_iter().flatten() {
            let line = line(told).ok_or_else(|| Failure::failed(format!("not a line of the log: {told}")))?;
            let (number, previous) = match last {
                Some(last) => last,
                None if line.number == 1 => (0, [0; 32]),
                None => (line.number.saturating_sub(1), line.previous),
            };
            if !line.follows(number, &previous) {
                let text = format!("the log is broken: line {} does not follow line {number}", line.number);
                return Err(Failure::failed(text));
            }
            head_found |= told["hash"].as_str() == head;
            last = Some((line.number, line.hash));
            lines += 1;
        }
        match answer["next"].as_str() {
            Some(next) => page.after = Some(next.to_owned()),
            None => break,
        }
    }
    if !head_found {
        return Err(Failure::failed(
            "the log has no line of this hash: lines were cut off, or are too old to be kept",
        ));
    }
    let last = last.map(|(number, hash)| json!({ "number": number, "hash": hex(&hash) }));
    println!("{}", json!({ "lines": lines, "whole": true, "last": last }));
    Ok(())
}

fn read(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|cause| Failure::failed(format!("the answer is not JSON: {cause}")))
}

fn line(told: &Value) -> Option<AuditLine> {
    let text = |field: &str| told[field].as_str().map(str::to_owned);
    let entry = AuditEntry {
        at: WallMs(told["at_ms"].as_u64()?),
        who: text("who")?,
        act: text("act")?,
        target: text("target")?,
        outcome: text("outcome")?,
        remote: text("remote")?,
        trace: text("trace_id")?,
    };
    let (previous, hash) = (bytes(told["previous"].as_str()?)?, bytes(told["hash"].as_str()?)?);
    Some(AuditLine { number: told["number"].as_u64()?, entry, previous, hash })
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        hex.chars().map(|digit| digit.to_digit(16).map(|n| n as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
