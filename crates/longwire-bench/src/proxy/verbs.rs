//! `longwire bench proxy`: the proxy itself, and the words to a running one.

use std::net::{SocketAddr, ToSocketAddrs};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api;
use super::desk::Desk;
use crate::error::BenchError;
use crate::http::{Api, Reply};

/// Where the API is when nobody says otherwise; Toxiproxy's own port.
const API: &str = "127.0.0.1:8474";

/// Without a verb, runs the proxy until it is ended; with one, tells a running proxy what to do.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ProxyArgs {
    /// Where the API of the proxy listens.
    #[arg(long, value_name = "HOST:PORT", default_value = API)]
    listen: String,
    /// Connections of each proxy at once; further ones are reset.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    connections_max: u32,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Debug, Args)]
struct Host {
    /// The API of the running proxy.
    #[arg(long, value_name = "HOST:PORT", default_value = API)]
    host: String,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// A new proxy.
    Create {
        name: String,
        /// Where clients connect.
        #[arg(short, long, value_name = "HOST:PORT")]
        listen: String,
        /// Where it connects for them.
        #[arg(short, long, value_name = "HOST:PORT")]
        upstream: String,
        #[command(flatten)]
        host: Host,
    },
    /// All proxies and their toxics.
    List {
        #[command(flatten)]
        host: Host,
    },
    /// One proxy and its toxics.
    Inspect {
        name: String,
        #[command(flatten)]
        host: Host,
    },
    /// Disables an enabled proxy, enables a disabled one.
    Toggle {
        name: String,
        #[command(flatten)]
        host: Host,
    },
    /// Ends a proxy and its connections.
    Delete {
        name: String,
        #[command(flatten)]
        host: Host,
    },
    /// Enables all proxies and takes all toxics away.
    Reset {
        #[command(flatten)]
        host: Host,
    },
    /// Toxics of a proxy.
    #[command(subcommand)]
    Toxic(ToxicVerb),
}

#[derive(Clone, Debug, Subcommand)]
enum ToxicVerb {
    /// Puts a toxic in.
    Add {
        proxy: String,
        /// latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data or blackhole.
        #[arg(short = 't', long = "type")]
        kind: String,
        /// Its name (default: type_stream).
        #[arg(short = 'n', long = "toxicName")]
        name: Option<String>,
        /// Share of the connections that have it, 0 to 1.
        #[arg(long, default_value_t = 1.0)]
        toxicity: f64,
        /// From the client to the server.
        #[arg(short, long, conflicts_with = "downstream")]
        upstream: bool,
        /// From the server to the client (the default).
        #[arg(short, long)]
        downstream: bool,
        /// One of its measures; may be repeated.
        #[arg(short, long, value_name = "NAME=NUMBER", value_parser = measure)]
        attribute: Vec<(String, f64)>,
        #[command(flatten)]
        host: Host,
    },
    /// Changes measures of a toxic.
    Update {
        proxy: String,
        #[arg(short = 'n', long = "toxicName")]
        name: String,
        #[arg(long)]
        toxicity: Option<f64>,
        #[arg(short, long, value_name = "NAME=NUMBER", value_parser = measure)]
        attribute: Vec<(String, f64)>,
        #[command(flatten)]
        host: Host,
    },
    /// Takes a toxic away.
    #[command(alias = "delete")]
    Remove {
        proxy: String,
        #[arg(short = 'n', long = "toxicName")]
        name: String,
        #[command(flatten)]
        host: Host,
    },
}

/// A request to the API of a running proxy.
struct Call {
    host: String,
    method: &'static str,
    path: String,
    body: Value,
}

/// Runs the proxy, or follows the verb.
pub(crate) fn run(args: &ProxyArgs) -> Result<(), BenchError> {
    match &args.verb {
        None => stand(&args.listen, args.connections_max as usize),
        Some(Verb::Toggle { name, host }) => toggle(name, &host.host),
        Some(verb) => {
            let reply = send(&call(verb))?;
            println!("{}", text(&reply));
            Ok(())
        }
    }
}

fn stand(listen: &str, connections_max: usize) -> Result<(), BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::system("start the runtime"))?;
    runtime.block_on(async {
        let bound = tokio::net::TcpListener::bind(listen).await;
        let listener = bound.map_err(BenchError::system(format!("listen at {listen}")))?;
        let address = listener.local_addr().map_err(BenchError::system("own address"))?;
        println!("{}", json!({ "ready": true, "api": address.to_string(), "pid": std::process::id() }));
        api::serve(listener, Desk::new(connections_max)).await;
        Ok(())
    })
}

fn call(verb: &Verb) -> Call {
    let to = |host: &Host, method, path: String, body| Call { host: host.host.clone(), method, path, body };
    match verb {
        Verb::Create { name, listen, upstream, host } => {
            let body = json!({ "name": name, "listen": listen, "upstream": upstream, "enabled": true });
            to(host, "POST", "/proxies".into(), body)
        }
        Verb::List { host } => to(host, "GET", "/proxies".into(), Value::Null),
        Verb::Inspect { name, host } | Verb::Toggle { name, host } => {
            to(host, "GET", format!("/proxies/{name}"), Value::Null)
        }
        Verb::Delete { name, host } => to(host, "DELETE", format!("/proxies/{name}"), Value::Null),
        Verb::Reset { host } => to(host, "POST", "/reset".into(), Value::Null),
        Verb::Toxic(ToxicVerb::Add { proxy, kind, name, toxicity, upstream, attribute, host, .. }) => {
            let stream = if *upstream { "upstream" } else { "downstream" };
            let attributes = measures(attribute);
            let body = json!({
                "name": name, "type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes,
            });
            to(host, "POST", format!("/proxies/{proxy}/toxics"), body)
        }
        Verb::Toxic(ToxicVerb::Update { proxy, name, toxicity, attribute, host }) => {
            let body = json!({ "toxicity": toxicity, "attributes": measures(attribute) });
            to(host, "POST", format!("/proxies/{proxy}/toxics/{name}"), body)
        }
        Verb::Toxic(ToxicVerb::Remove { proxy, name, host }) => {
            to(host, "DELETE", format!("/proxies/{proxy}/toxics/{name}"), Value::Null)
        }
    }
}

fn toggle(name: &str, host: &str) -> Result<(), BenchError> {
    let path = format!("/proxies/{name}");
    let at = |method, body| Call { host: host.to_owned(), method, path: path.clone(), body };
    let now = send(&at("GET", Value::Null))?.json();
    let enabled = now["enabled"].as_bool().unwrap_or_default();
    let reply = send(&at("POST", json!({ "enabled": !enabled })))?;
    println!("{}", text(&reply));
    Ok(())
}

fn send(call: &Call) -> Result<Reply, BenchError> {
    let body = if call.body.is_null() { String::new() } else { call.body.to_string() };
    Api::new(resolve(&call.host)?, "", "").open()?.call_well(call.method, &call.path, &body)
}

fn resolve(host: &str) -> Result<SocketAddr, BenchError> {
    let plain = host.trim_start_matches("http://").trim_end_matches('/');
    let found = plain.to_socket_addrs().map_err(BenchError::system(format!("find {host}")))?.next();
    found.ok_or_else(|| BenchError::Options(format!("{host} has no address")))
}

fn text(reply: &Reply) -> String {
    match reply.json() {
        Value::Null => "done".into(),
        json => serde_json::to_string_pretty(&json).unwrap_or_default(),
    }
}

fn measure(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("an attribute is NAME=NUMBER")?;
    let number = number.parse().map_err(|_| format!("{number} is not a number"))?;
    Ok((name.to_owned(), number))
}

fn measures(attributes: &[(String, f64)]) -> Map<String, Value> {
    attributes.iter().map(|(name, number)| (name.clone(), json!(number))).collect()
}
