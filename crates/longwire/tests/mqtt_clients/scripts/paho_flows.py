"""Flows of paho-mqtt: paho_flows.py FLOW DOOR. DOOR is JSON, see `Door` in kit.rs. Ends with 0 when all went as it must."""
import json
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

FLOW, DOOR = sys.argv[1], json.loads(sys.argv[2])
PATIENCE_S = 20
KEPT_S = 600


class Peer:
    """A client whose messages wait in a queue."""

    def __init__(self, version, name, keep=False, will=None, will_delay_s=0, stays=False):
        self.messages, self.events = queue.Queue(), queue.Queue()
        extra = {} if version == 5 else {"clean_session": not keep}
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, DOOR.get("device") or f"paho-{version}-{name}",
                             protocol=version, reconnect_on_failure=stays, **extra)
        client.on_message = lambda _c, _u, message: self.messages.put(message)
        client.on_connect = lambda _c, _u, flags, reason, _p: self.events.put((reason, flags.session_present))
        client.on_disconnect = lambda _c, _u, _f, reason, _p: self.events.put((reason, None))
        client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.events.put(codes)
        if "user" in DOOR:
            client.username_pw_set(DOOR["user"], DOOR.get("password"))
        if "ca" in DOOR:
            client.tls_set(DOOR["ca"], DOOR.get("certificate"), DOOR.get("key"))
        if will:
            properties = None
            if will_delay_s:
                properties = Properties(PacketTypes.WILLMESSAGE)
                properties.WillDelayInterval = will_delay_s
            client.will_set(*will, properties=properties)
        options = {}
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = KEPT_S if keep else 0
            options = {"clean_start": not keep, "properties": properties}
        client.connect(DOOR["host"], DOOR["port"], keepalive=30, bind_address=DOOR.get("from", ""), **options)
        client.loop_start()
        self.client = client
        reason, self.session_present = self.events.get(timeout=PATIENCE_S)
        assert self.session_present is not None and not reason.is_failure, reason

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        codes = self.events.get(timeout=PATIENCE_S)
        assert [code.value for code in codes] == [qos], codes

    def publish(self, topic, payload, qos, retain=False):
        message = self.client.publish(topic, payload, qos, retain)
        message.wait_for_publish(PATIENCE_S)
        assert message.is_published()

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def payload(self):
        return self.message().payload.decode()

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Without a DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


def basic(version, topic):
    reader, writer = Peer(version, "reader"), Peer(version, "writer")
    reader.subscribe(f"{topic}/+", 2)
    for qos in (0, 1, 2):
        writer.publish(f"{topic}/{qos}", f"message {qos}", qos)
        message = reader.message()
        assert (message.topic, message.payload, message.qos) == (f"{topic}/{qos}", b"message %d" % qos, qos), message
        assert not message.dup and not message.retain
    for number in range(200):
        writer.client.publish(f"{topic}/many", str(number), 1)
    assert [int(reader.message().payload) for _ in range(200)] == list(range(200))
    reader.leave()
    writer.leave()


def retained(version, topic):
    writer, early, late = Peer(version, "writer"), Peer(version, "early"), Peer(version, "late")
    writer.publish(f"{topic}/a", "of a", 1, True)
    writer.publish(f"{topic}/b", "of b", 2, True)
    early.subscribe(f"{topic}/#", 1)
    got = [early.message() for _ in range(2)]
    assert sorted((message.payload, message.retain) for message in got) == [(b"of a", True), (b"of b", True)], got
    writer.publish(f"{topic}/a", "", 1, True)
    cleared = early.message()
    assert (cleared.topic, cleared.payload, cleared.retain) == (f"{topic}/a", b"", False), cleared
    late.subscribe(f"{topic}/#", 1)
    writer.publish(f"{topic}/a", "not kept", 1)
    got = [late.message() for _ in range(2)]
    assert [(message.payload, message.retain) for message in got] == [(b"of b", True), (b"not kept", False)], got
    writer.publish(f"{topic}/b", "", 1, True)
    for peer in (writer, early, late):
        peer.leave()


def will(version, topic):
    reader = Peer(version, "reader")
    reader.subscribe(topic, 1)
    Peer(version, "polite", will=(topic, "polite", 1, False)).leave()
    Peer(version, "lost", will=(topic, "lost", 1, False)).vanish()
    assert reader.payload() == "lost"
    reader.publish(topic, "end", 1)
    assert reader.payload() == "end"
    reader.leave()


def will_delay(version, topic):
    """One whose client comes back in time is not sent; the next one is, a second after its client was lost."""
    reader = Peer(version, "reader")
    reader.subscribe(topic, 1)
    Peer(version, "lost", keep=True, will=(topic, "too early", 1, False), will_delay_s=60).vanish()
    back = Peer(version, "lost", keep=True, will=(topic, "lost", 1, False), will_delay_s=1)
    assert back.session_present
    back.publish(topic, "back", 1)
    assert reader.payload() == "back"
    back.vanish()
    assert reader.payload() == "lost"
    reader.publish(topic, "end", 1)
    assert reader.payload() == "end"
    reader.leave()


def shared(version, topic):
    members = [Peer(version, f"member{number}") for number in range(2)]
    for member in members:
        member.subscribe(f"$share/group/{topic}", 1)
    writer = Peer(version, "writer")
    for number in range(60):
        writer.publish(topic, str(number), 1)
    got = [[], []]
    while sum(map(len, got)) < 60:
        for member, its in zip(members, got):
            try:
                its.append(int(member.messages.get(timeout=0.1).payload))
            except queue.Empty:
                pass
    assert sorted(got[0] + got[1]) == list(range(60)), got
    assert all(got), "both take part"
    for peer in (*members, writer):
        peer.leave()
    assert all(member.messages.empty() for member in members), "nothing comes twice"


def session_begin(version, topic):
    reader = Peer(version, "kept", keep=True)
    assert not reader.session_present
    reader.subscribe(f"{topic}/#", 2)
    reader.leave()
    writer = Peer(version, "writer")
    for qos in (1, 2, 1):
        writer.publish(f"{topic}/{qos}", f"waits {qos}", qos)
    writer.leave()


def session_resume(version, topic):
    reader = Peer(version, "kept", keep=True)
    assert reader.session_present
    # The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
    got = [reader.message() for _ in range(3)]
    assert sorted((message.payload, message.qos) for message in got) == [
        (b"waits 1", 1), (b"waits 1", 1), (b"waits 2", 2)], got
    reader.publish(f"{topic}/1", "end", 1)
    assert reader.payload() == "end"
    reader.leave()


def stay(version, topic):
    """The server is killed and comes back meanwhile: the client finds its way by itself."""
    device = Peer(version, "stays", keep=True, stays=True)
    device.subscribe(f"{topic}/+", 2)
    print("stays on", topic, flush=True)
    gone, back = (device.events.get(timeout=PATIENCE_S)[1] for _ in range(2))
    assert gone is None and back, "the same session"
    assert device.payload() == "after"
    device.publish(f"{topic}/own", "own", 2)
    assert device.payload() == "own"
    device.leave()


def pushed(version, topic):
    """What was pushed to the device comes without a subscription; its own topics are open to it."""
    device = Peer(version, "pushed")
    message = device.message()
    assert (message.topic, message.payload.decode()) == ("$push/text", f"for {DOOR['device']}"), message
    device.subscribe(f"device/{DOOR['device']}/+", 1)
    device.publish(f"device/{DOOR['device']}/a", "own", 1)
    assert device.payload() == "own"
    device.leave()


def refused(version, topic):
    try:
        Peer(version, "refused")
    except (AssertionError, OSError):
        return
    raise RuntimeError("let in")


for VERSION in DOOR["versions"]:
    print("version", VERSION, flush=True)
    {"basic": basic, "retained": retained, "will": will, "will-delay": will_delay, "shared": shared,
     "session-begin": session_begin, "session-resume": session_resume, "stay": stay, "pushed": pushed,
     "refused": refused}[FLOW](VERSION, f"paho/{VERSION}/{FLOW.split('-')[0]}")
