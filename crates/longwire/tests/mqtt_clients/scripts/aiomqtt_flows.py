"""Flows of aiomqtt: aiomqtt_flows.py FLOW DOOR. DOOR is JSON, see `Door` in kit.rs. Ends with 0 when all went as it must."""
import asyncio
import contextlib
import json
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

FLOW, DOOR = sys.argv[1], json.loads(sys.argv[2])
PATIENCE_S = 20
KEPT_S = 600
# aiomqtt does not notice that a connection ends before CONNACK.
CONNECT_S = 3 if FLOW == "refused" else PATIENCE_S


def peer(version, name, keep=False, will=None):
    options = {"clean_session": not keep}
    if version == 5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = KEPT_S if keep else 0
        options = {"clean_start": not keep, "properties": properties}
    if "ca" in DOOR:
        options["tls_params"] = aiomqtt.TLSParameters(DOOR["ca"], DOOR.get("certificate"), DOOR.get("key"))
    protocol = aiomqtt.ProtocolVersion.V5 if version == 5 else aiomqtt.ProtocolVersion.V311
    return aiomqtt.Client(DOOR["host"], DOOR["port"], identifier=DOOR.get("device") or f"aiomqtt-{version}-{name}",
                          protocol=protocol, username=DOOR.get("user"), password=DOOR.get("password"), will=will,
                          bind_address=DOOR.get("from", ""), timeout=CONNECT_S, **options)


async def message(client):
    return await asyncio.wait_for(anext(aiter(client.messages)), PATIENCE_S)


async def payload(client):
    return (await message(client)).payload.decode()


@contextlib.asynccontextmanager
async def another_process(version, words):
    """A client that connects with a will and is killed: nothing in it can say goodbye."""
    door = json.dumps({**DOOR, "versions": [version], "will": words})
    child = await asyncio.create_subprocess_exec(sys.executable, __file__, "hold", door, stdout=asyncio.subprocess.PIPE)
    try:
        while (line := await asyncio.wait_for(child.stdout.readline(), PATIENCE_S)) != b"held\n":
            assert line, "the process ended"
        yield
    finally:
        child.kill()
        await child.wait()


async def hold(version, topic):
    words = DOOR["will"]
    properties = None
    if "delay_s" in words:
        properties = Properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = words["delay_s"]
    will = aiomqtt.Will(words["topic"], words["payload"], qos=1, properties=properties)
    async with peer(version, "lost", keep="delay_s" in words, will=will):
        print("held", flush=True)
        await asyncio.sleep(KEPT_S)


async def basic(version, topic):
    async with peer(version, "reader") as reader, peer(version, "writer") as writer:
        await reader.subscribe(f"{topic}/+", qos=2)
        for qos in (0, 1, 2):
            await writer.publish(f"{topic}/{qos}", f"message {qos}", qos=qos)
            got = await message(reader)
            assert (str(got.topic), got.payload, got.qos) == (f"{topic}/{qos}", b"message %d" % qos, qos), got
            assert not got.retain


async def retained(version, topic):
    async with peer(version, "writer") as writer, peer(version, "early") as early, peer(version, "late") as late:
        await writer.publish(f"{topic}/a", "of a", qos=1, retain=True)
        await writer.publish(f"{topic}/b", "of b", qos=2, retain=True)
        await early.subscribe(f"{topic}/#", qos=1)
        got = [await message(early) for _ in range(2)]
        assert sorted((one.payload, one.retain) for one in got) == [(b"of a", True), (b"of b", True)], got
        await writer.publish(f"{topic}/a", "", qos=1, retain=True)
        cleared = await message(early)
        assert (str(cleared.topic), cleared.payload, bool(cleared.retain)) == (f"{topic}/a", b"", False), cleared
        await late.subscribe(f"{topic}/#", qos=1)
        await writer.publish(f"{topic}/a", "not kept", qos=1)
        got = [await message(late) for _ in range(2)]
        assert [(one.payload, one.retain) for one in got] == [(b"of b", True), (b"not kept", False)], got
        await writer.publish(f"{topic}/b", "", qos=1, retain=True)


async def will(version, topic):
    async with peer(version, "reader") as reader:
        await reader.subscribe(topic, qos=1)
        async with peer(version, "polite", will=aiomqtt.Will(topic, "polite", qos=1)):
            pass
        async with another_process(version, {"topic": topic, "payload": "lost"}):
            pass
        assert await payload(reader) == "lost"
        await reader.publish(topic, "end", qos=1)
        assert await payload(reader) == "end"


async def will_delay(version, topic):
    """One whose client comes back in time is not sent; the next one is, a second after its client was lost."""
    async with peer(version, "reader") as reader:
        await reader.subscribe(topic, qos=1)
        async with another_process(version, {"topic": topic, "payload": "too early", "delay_s": 60}):
            pass
        async with another_process(version, {"topic": topic, "payload": "lost", "delay_s": 1}):
            await reader.publish(topic, "back", qos=1)
            assert await payload(reader) == "back"
        assert await payload(reader) == "lost"
        await reader.publish(topic, "end", qos=1)
        assert await payload(reader) == "end"


async def shared(version, topic):
    async with peer(version, "member0") as first, peer(version, "member1") as second, peer(version, "writer") as writer:
        for member in (first, second):
            await member.subscribe(f"$share/group/{topic}", qos=1)
        got = [[], []]

        async def take(member, its):
            async for one in member.messages:
                its.append(int(one.payload))
                if len(got[0]) + len(got[1]) == 60:
                    return

        takers = [asyncio.create_task(take(member, its)) for member, its in ((first, got[0]), (second, got[1]))]
        for number in range(60):
            await writer.publish(topic, str(number), qos=1)
        done, others = await asyncio.wait(takers, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        assert done, got
        for other in others:
            other.cancel()
        assert sorted(got[0] + got[1]) == list(range(60)), got
        assert all(got), "both take part"
    assert len(got[0]) + len(got[1]) == 60, "nothing comes twice"


async def session_begin(version, topic):
    async with peer(version, "kept", keep=True) as reader:
        await reader.subscribe(f"{topic}/#", qos=2)
    async with peer(version, "writer") as writer:
        for qos in (1, 2, 1):
            await writer.publish(f"{topic}/{qos}", f"waits {qos}", qos=qos)


async def session_resume(version, topic):
    async with peer(version, "kept", keep=True) as reader:
        # The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
        got = [await message(reader) for _ in range(3)]
        assert sorted((one.payload, one.qos) for one in got) == [(b"waits 1", 1), (b"waits 1", 1), (b"waits 2", 2)], got
        await reader.publish(f"{topic}/1", "end", qos=1)
        assert await payload(reader) == "end"


async def pushed(version, topic):
    """What was pushed to the device comes without a subscription; its own topics are open to it."""
    async with peer(version, "pushed") as device:
        got = await message(device)
        assert (str(got.topic), got.payload.decode()) == ("$push/text", f"for {DOOR['device']}"), got
        await device.subscribe(f"device/{DOOR['device']}/+", qos=1)
        await device.publish(f"device/{DOOR['device']}/a", "own", qos=1)
        assert await payload(device) == "own"


async def refused(version, topic):
    try:
        async with peer(version, "refused"):
            pass
    except aiomqtt.MqttError:
        return
    raise RuntimeError("let in")


for VERSION in DOOR["versions"]:
    print("version", VERSION, flush=True)
    asyncio.run({"basic": basic, "retained": retained, "will": will, "will-delay": will_delay, "shared": shared,
                 "session-begin": session_begin, "session-resume": session_resume, "pushed": pushed,
                 "refused": refused, "hold": hold}[FLOW](VERSION, f"aiomqtt/{VERSION}/{FLOW.split('-')[0]}"))
