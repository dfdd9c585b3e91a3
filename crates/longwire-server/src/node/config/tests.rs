#![allow(clippy::unwrap_used)]
use super::*;
use crate::gate::transport::Accepts;

fn problems(toml: &str) -> Vec<String> {
    let mut layers = Layers::default();
    layers.toml("a.toml", toml);
    Config::build(layers).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_said_is_a_safe_configuration() {
    let config = Config::build(Layers::default()).unwrap();
    assert!(config.device_bind().ip().is_loopback() && config.api.bind.ip().is_loopback());
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let mut layers = Layers::default();
    layers.toml("a.toml", "[limits]\nack_s = 11\nlogin_s = 12\nframe_s = 13\n");
    let said = [("LONGWIRE_LIMITS__ACK_S", "21"), ("LONGWIRE_LIMITS__LOGIN_S", "22"), ("LONGWIRE_X", "?")];
    layers.environment(said.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
    layers.assignment("limits.ack_s=31");
    let gate = Config::build(layers).unwrap().gate;
    assert_eq!((gate.ack_deadline_s, gate.login_deadline_s, gate.frame_deadline_s), (31, 22, 13));
    assert_eq!(gate.write_stall_s, 30);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
    let found = problems("# a comment\n[heartbeat]\ndefalt = 60\n");
    assert_eq!(found, ["a.toml:3: unknown key heartbeat.defalt; did you mean heartbeat.default?"]);
    let found = problems("\n[hartbeat]\nmin = 60\n");
    assert_eq!(found, ["a.toml:2: unknown section [hartbeat]; did you mean heartbeat.min?"]);
    assert!(problems("limits = 3\n")[0].starts_with("a.toml:1: limits is a section"));
}

#[test]
fn a_wrong_type_or_range_is_named_with_its_line() {
    let found = problems(
        "[api]\nbind = 8080\n[limits]\nack_s = \"30\"\nlogin_s = -1\nframe_s = 601\n[shards]\npin = 1\n",
    );
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found.contains(&"a.toml:2: api.bind: must be an address as ip:port, is an integer".to_owned()));
    assert!(found.iter().any(|p| p.starts_with("a.toml:4: limits.ack_s: must be a whole number")));
    assert!(found.iter().any(|p| p.starts_with("a.toml:5: limits.login_s")));
    assert!(found.iter().any(|p| p.starts_with("a.toml:6: limits.frame_s") && p.ends_with("is 601")));
    assert!(found.iter().any(|p| p.starts_with("a.toml:8: shards.pin: must be true or false")));
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let found = problems("[api]\nbind = = 3\n");
    assert!(found[0].starts_with("a.toml:2: "), "{found:?}");
}

#[test]
fn an_open_address_needs_the_word_for_it() {
    for (bind, switch) in [
        ("api.bind", "api.insecure_plaintext"),
        ("listener.device.bind", "listener.device.insecure_plaintext"),
    ] {
        let mut layers = Layers::default();
        layers.assignment(&format!("{bind}=0.0.0.0:0"));
        let found = Config::build(layers.clone()).unwrap_err();
        assert!(found[0].to_string().contains(&format!("{switch} = true")), "{found:?}");
        layers.assignment(&format!("{switch}=true"));
        assert!(Config::build(layers).is_ok());
    }
}

#[test]
fn clients_without_credentials_are_served_on_loopback_only() {
    let mut layers = Layers::default();
    layers.assignment("auth.anonymous=true");
    layers.assignment("auth.anonymous_app=bench");
    let config = Config::build(layers.clone()).unwrap();
    assert_eq!(config.auth.anonymous.unwrap().as_str(), "bench");
    layers.assignment("listener.device.bind=0.0.0.0:0");
    layers.assignment("listener.device.insecure_plaintext=true");
    let found = Config::build(layers.clone()).unwrap_err();
    let text = found[0].to_string();
    assert!(text.contains("auth.anonymous") && text.contains("listener.device.bind"), "{text}");
    layers.assignment("auth.anonymous=false");
    assert_eq!(Config::build(layers).unwrap().auth.anonymous, None);
    assert!(problems("[mqtt]\nsession_expiry = 2500000\n")[0].contains("mqtt.session_expiry_max"));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert!(problems("[limits]\noutbox_low = 65536\n")[0].contains("outbox_high"));
    assert!(problems("[limits]\nlogin_rate_max = 500\n")[0].contains("above limits.login_rate_max (500)"));
    assert!(problems("[heartbeat]\ndefault = 10\n")[0].contains("heartbeat.min to heartbeat.max"));
    assert!(problems("[heartbeat]\nmin = 700\nmax = 600\n")[0].contains("above heartbeat.max"));
}

#[test]
fn the_effective_configuration_reads_back_and_keeps_secrets() {
    let mut layers = Layers::default();
    layers.assignment("sql.url=sqlite:/secret-path");
    layers.assignment("node.id=a \"quoted\" name");
    let shown = effective(&layers);
    assert!(!shown.contains("secret-path"), "{shown}");
    let mut again = Layers::default();
    again.toml("shown", &shown);
    assert_eq!(again.finish(), Ok(()));
    assert_eq!(again.value("node.id").unwrap().0, Value::Text("a \"quoted\" name".into()));
}

#[test]
fn what_a_port_takes_is_said_in_words_or_an_array() {
    let built = |toml: &str| {
        let mut layers = Layers::default();
        layers.toml("a.toml", toml);
        Config::build(layers).unwrap().gate.listeners[0].clone()
    };
    let all = built("");
    assert!(all.accepts == Accepts::default() && all.proxies.is_empty() && all.tls.is_none());
    let some = built(
        "[listener.device]\naccept = [\"native\", \"tls\"]\nproxy_from = \"10.0.0.1 ::1\"\nws.origins = [\"https://a.example\"]\n",
    );
    assert!(some.accepts.native && some.accepts.tls && !some.accepts.mqtt && !some.accepts.websocket);
    assert!(some.is_proxy("10.0.0.1".parse().unwrap()) && some.is_proxy("::1".parse().unwrap()));
    assert!(some.is_proxy("::ffff:10.0.0.1".parse().unwrap()) && !some.is_proxy("10.0.0.2".parse().unwrap()));
    assert_eq!(some.upgrade.origins, ["https://a.example"]);
}

#[test]
fn a_port_that_makes_no_sense_is_refused_with_what_to_do() {
    for (toml, said) in [
        ("accept = \"native http\"", "there is no \"http\""),
        ("accept = [\"ws\", \"tls\"]", "must name native, mqtt or both"),
        ("accept = [1]", "must be words"),
        ("proxy_from = \"balancer.example\"", "must be IP addresses"),
        ("ws.paths = \"mqtt\"", "begins with /"),
        ("tls.certificate = \"c.pem\"", "go together: give listener.device.tls.key"),
        ("tls.client_auth = \"required\"", "goes together with listener.device.tls.client_ca"),
        ("tls.client_auth = \"optional\"\ntls.client_ca = \"ca.pem\"", "needs TLS"),
    ] {
        let found = problems(&format!("[listener.device]\n{toml}\n"));
        assert!(found.iter().any(|problem| problem.contains(said)), "{toml}: {found:?}");
    }
}

/// Listeners besides the first are there when they have an address, each with its own words.
#[test]
fn further_listeners_take_what_they_say() {
    let built = |toml: &str| {
        let mut layers = Layers::default();
        layers.toml("a.toml", toml);
        Config::build(layers)
    };
    assert_eq!(built("").unwrap().listeners.len(), 1);
    let certificate = "[listener.device]\ntls.certificate = \"c.pem\"\ntls.key = \"k.pem\"\n";
    let all = "[listener.mqtt]\nbind = \"127.0.0.1:1883\"\n[listener.mqtts]\nbind = \"0.0.0.0:8883\"\n\
               [listener.ws]\nbind = \"127.0.0.1:8083\"\nproxy_from = \"10.0.0.1\"\n\
               [listener.wss]\nbind = \"0.0.0.0:8084\"\naccept = \"mqtt ws-only tls-only\"\n";
    let config = built(&format!("{certificate}{all}")).unwrap();
    let names: Vec<_> =
        config.listeners.iter().map(|listener| (listener.name, listener.bind.port())).collect();
    assert_eq!(names, [("device", 7800), ("mqtt", 1883), ("mqtts", 8883), ("ws", 8083), ("wss", 8084)]);
    let accepts: Vec<_> = config.gate.listeners.iter().map(|terms| terms.accepts).collect();
    let none =
        Accepts { native: false, mqtt: false, websocket: false, tls: false, plain: false, bare: false };
    assert_eq!(accepts[0], Accepts::default());
    assert_eq!(accepts[1], Accepts { mqtt: true, plain: true, bare: true, ..none });
    assert_eq!(accepts[2], Accepts { mqtt: true, tls: true, bare: true, ..none });
    assert_eq!(accepts[3], Accepts { native: true, mqtt: true, websocket: true, plain: true, ..none });
    assert_eq!(accepts[4], Accepts { mqtt: true, websocket: true, tls: true, ..none });
    assert!(config.gate.listeners[3].is_proxy("10.0.0.1".parse().unwrap()));
    assert!(!config.gate.listeners[0].is_proxy("10.0.0.1".parse().unwrap()));
    for (toml, said) in [
        ("[listener.mqtts]\nbind = \"127.0.0.1:0\"\n", "give listener.device.tls.certificate"),
        ("[listener.mqtt]\nbind = \"0.0.0.0:1883\"\n", "listener.mqtt.insecure_plaintext = true"),
        ("[listener.ws]\nbind = \"localhost\"\n", "must be an address as ip:port, or empty"),
        ("[listener.ws]\nbind = \"127.0.0.1:0\"\naccept = \"ws-only\"\n", "must name native, mqtt or both"),
        (
            "[auth]\nanonymous = true\nanonymous_app = \"a\"\n[listener.mqtt]\nbind = \"0.0.0.0:1883\"\ninsecure_plaintext = true\n",
            "listener.mqtt.bind",
        ),
    ] {
        let found = problems(toml);
        assert!(found.iter().any(|problem| problem.contains(said)), "{toml}: {found:?}");
    }
}

/// With a certificate an open address needs no further word, and takes nothing outside TLS.
#[test]
fn an_open_address_with_a_certificate_takes_tls_only() {
    let mut layers = Layers::default();
    let tls = "[listener.device]\nbind = \"0.0.0.0:0\"\ntls.certificate = \"c.pem\"\ntls.key = \"k.pem\"\n";
    layers.toml("a.toml", tls);
    let config = Config::build(layers.clone()).unwrap();
    assert!(config.device_tls.is_some() && !config.gate.listeners[0].accepts.plain);
    let mut said = layers.clone();
    said.assignment("listener.device.insecure_plaintext=true");
    assert!(Config::build(said).unwrap().gate.listeners[0].accepts.plain);
    layers.assignment("listener.device.accept=native mqtt ws");
    assert!(Config::build(layers).unwrap_err()[0].to_string().contains("there is no TLS"));
}
