//! Python and Node clients.

use super::kit::{Door, Running, Scripted, command, flow};
use super::stage::{Behind, Lasting, Secured};
use super::support::{TestServer, WEB_FRONT};

/// Where clients sit that can choose their address.
const CHOSEN: &str = "127.0.0.9";
/// Where the others sit.
const GIVEN: &str = "127.0.0.1";

/// A flow of a client in both versions.
fn passes(client: Scripted, name: &str) {
    flow(client, name, &Door::open(TestServer::start().device));
}

fn leaves_wills(client: Scripted) {
    let server = TestServer::start();
    flow(client, "will", &Door::open(server.device));
    flow(client, "will-delay", &Door::open(server.device).versions(&[5]));
}

fn finds_its_session_after_kill9(client: Scripted) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    flow(client, "session-begin", &Door::open(server.device));
    server.kill9();
    let server = TestServer::start_in(folder.path());
    flow(client, "session-resume", &Door::open(server.device));
}

/// Connected when the server dies, and on its own from there.
fn comes_back_after_kill9(client: Scripted) {
    let mut server = Lasting::start();
    let door = server.door();
    let running = Running::start(command(client, "stay", &door));
    for _ in &door.versions {
        let topic = running.line_after("stays on ");
        server.dies_and_publishes(&format!("{topic}/api"));
    }
    running.ends_well();
}

fn is_known_by_its_certificate(client: Scripted) {
    Secured::start().tried_by(|name, door| flow(client, name, door));
}

fn keeps_its_address_behind_nginx(client: Scripted, address: &str) {
    let behind = Behind::start();
    let from = (address == CHOSEN).then(|| CHOSEN.to_owned());
    flow(client, "basic", &Door { from, ..behind.door() });
    behind.all_came_from(address);
}

mod paho {
    use super::*;
    const CLIENT: Scripted = Scripted::Paho;

    #[test]
    fn exchanges_every_qos() {
        passes(CLIENT, "basic");
    }

    #[test]
    fn keeps_and_clears_retained_messages() {
        passes(CLIENT, "retained");
    }

    #[test]
    fn leaves_wills() {
        super::leaves_wills(CLIENT);
    }

    #[test]
    fn shares_a_subscription() {
        passes(CLIENT, "shared");
    }

    #[test]
    fn finds_its_session_after_kill9() {
        super::finds_its_session_after_kill9(CLIENT);
    }

    #[test]
    fn comes_back_after_kill9() {
        super::comes_back_after_kill9(CLIENT);
    }

    #[test]
    fn is_known_by_its_certificate() {
        super::is_known_by_its_certificate(CLIENT);
    }

    #[test]
    fn keeps_its_address_behind_nginx() {
        super::keeps_its_address_behind_nginx(CLIENT, CHOSEN);
    }
}

mod aiomqtt {
    use super::*;
    const CLIENT: Scripted = Scripted::Aiomqtt;

    #[test]
    fn exchanges_every_qos() {
        passes(CLIENT, "basic");
    }

    #[test]
    fn keeps_and_clears_retained_messages() {
        passes(CLIENT, "retained");
    }

    #[test]
    fn leaves_wills() {
        super::leaves_wills(CLIENT);
    }

    #[test]
    fn shares_a_subscription() {
        passes(CLIENT, "shared");
    }

    #[test]
    fn finds_its_session_after_kill9() {
        super::finds_its_session_after_kill9(CLIENT);
    }

    #[test]
    fn is_known_by_its_certificate() {
        super::is_known_by_its_certificate(CLIENT);
    }

    #[test]
    fn keeps_its_address_behind_nginx() {
        super::keeps_its_address_behind_nginx(CLIENT, CHOSEN);
    }
}

mod mqttjs {
    use super::*;
    const CLIENT: Scripted = Scripted::MqttJs;

    #[test]
    fn exchanges_every_qos() {
        passes(CLIENT, "basic");
    }

    #[test]
    fn keeps_and_clears_retained_messages() {
        passes(CLIENT, "retained");
    }

    #[test]
    fn leaves_wills() {
        super::leaves_wills(CLIENT);
    }

    #[test]
    fn shares_a_subscription() {
        passes(CLIENT, "shared");
    }

    #[test]
    fn finds_its_session_after_kill9() {
        super::finds_its_session_after_kill9(CLIENT);
    }

    #[test]
    fn comes_back_after_kill9() {
        super::comes_back_after_kill9(CLIENT);
    }

    #[test]
    fn is_known_by_its_certificate() {
        super::is_known_by_its_certificate(CLIENT);
    }

    #[test]
    fn keeps_its_address_behind_nginx() {
        super::keeps_its_address_behind_nginx(CLIENT, GIVEN);
    }
}

mod mqttjs_over_websocket {
    use super::*;
    const CLIENT: Scripted = Scripted::MqttJsOverWebSocket;

    #[test]
    fn exchanges_every_qos() {
        passes(CLIENT, "basic");
    }

    #[test]
    fn keeps_and_clears_retained_messages() {
        passes(CLIENT, "retained");
    }

    #[test]
    fn leaves_wills() {
        super::leaves_wills(CLIENT);
    }

    #[test]
    fn shares_a_subscription() {
        passes(CLIENT, "shared");
    }

    #[test]
    fn finds_its_session_after_kill9() {
        super::finds_its_session_after_kill9(CLIENT);
    }

    #[test]
    fn comes_back_after_kill9() {
        super::comes_back_after_kill9(CLIENT);
    }

    #[test]
    fn is_known_by_its_certificate() {
        super::is_known_by_its_certificate(CLIENT);
    }

    #[test]
    fn keeps_its_address_behind_nginx() {
        super::keeps_its_address_behind_nginx(CLIENT, CHOSEN);
    }

    /// nginx as a web server names no client.
    #[test]
    fn passes_nginx_as_a_web_server() {
        let behind = Behind::start();
        let port = behind.nginx.web.port();
        flow(CLIENT, "basic", &Door { port, ..behind.door() });
        behind.all_came_from(WEB_FRONT);
    }
}
