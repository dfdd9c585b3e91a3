"""Flows of paho-mqtt: paho_flows.py FLOW HOST PORT VERSION(4|5). Ends with 0 when all went as it must."""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

FLOW, HOST, PORT, VERSION = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
PATIENCE_S = 20
TOPIC = f"paho/{VERSION}/{FLOW.split('-')[0]}"


class Peer:
    """A client whose messages wait in a queue."""

    def __init__(self, name, keep=False, will=None):
        self.messages, self.events = queue.Queue(), queue.Queue()
        extra = {} if VERSION == 5 else {"clean_session": not keep}
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"paho-{VERSION}-{name}", protocol=VERSION, **extra)
        client.on_message = lambda _c, _u, message: self.messages.put(message)
        client.on_connect = lambda _c, _u, flags, reason, _p: self.events.put((reason, flags.session_present))
        client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.events.put(codes)
        if will:
            client.will_set(*will)
        options = {}
        if VERSION == 5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if keep else 0
            options = {"clean_start": not keep, "properties": properties}
        client.connect(HOST, PORT, keepalive=30, **options)
        client.loop_start()
        self.client = client
        reason, self.session_present = self.events.get(timeout=PATIENCE_S)
        assert not reason.is_failure, reason

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        codes = self.events.get(timeout=PATIENCE_S)
        assert [code.value for code in codes] == [qos], codes

    def publish(self, topic, payload, qos, retain=False):
        self.client.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE_S)

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


def basic():
    reader, writer = Peer("reader"), Peer("writer")
    reader.subscribe(f"{TOPIC}/+", 2)
    for qos in (0, 1, 2):
        writer.publish(f"{TOPIC}/{qos}", f"message {qos}", qos)
        message = reader.message()
        assert (message.topic, message.payload, message.qos) == (f"{TOPIC}/{qos}", b"message %d" % qos, qos), message
        assert not message.dup and not message.retain
    for number in range(200):
        writer.client.publish(f"{TOPIC}/many", str(number), 1)
    assert [int(reader.message().payload) for _ in range(200)] == list(range(200))
    reader.leave()
    writer.leave()


def retained():
    writer = Peer("writer")
    writer.publish(f"{TOPIC}/a", "kept", 1, True)
    reader = Peer("reader")
    reader.subscribe(f"{TOPIC}/#", 1)
    message = reader.message()
    assert message.retain and message.payload == b"kept", message
    writer.publish(f"{TOPIC}/a", "", 1, True)
    assert reader.message().payload == b""


def will():
    reader = Peer("reader")
    reader.subscribe(TOPIC, 1)
    lost = Peer("lost", will=(TOPIC, "lost", 1, False))
    lost.client.loop_stop()
    lost.client.socket().close()
    assert reader.message().payload == b"lost"


def shared():
    members = [Peer(f"member{number}") for number in range(3)]
    for member in members:
        member.subscribe(f"$share/group/{TOPIC}", 1)
    writer = Peer("writer")
    for number in range(60):
        writer.publish(TOPIC, str(number), 1)
    got = []
    while len(got) < 60:
        for member in members:
            try:
                got.append(int(member.messages.get(timeout=0.1).payload))
            except queue.Empty:
                pass
    assert sorted(got) == list(range(60)), got


def session_begin():
    reader = Peer("kept", keep=True)
    reader.subscribe(f"{TOPIC}/#", 2)
    reader.leave()
    writer = Peer("writer")
    for qos in (1, 2, 1):
        writer.publish(f"{TOPIC}/{qos}", f"waits {qos}", qos)
    writer.leave()


def session_resume():
    reader = Peer("kept", keep=True)
    assert reader.session_present
    # The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
    assert sorted(reader.message().payload for _ in range(3)) == [b"waits 1", b"waits 1", b"waits 2"]
    reader.leave()


{"basic": basic, "retained": retained, "will": will, "shared": shared,
 "session-begin": session_begin, "session-resume": session_resume}[FLOW]()
