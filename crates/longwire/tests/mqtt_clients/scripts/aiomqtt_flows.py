"""Flows of aiomqtt: aiomqtt_flows.py FLOW HOST PORT VERSION(4|5). Ends with 0 when all went as it must."""
import asyncio
import sys

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

FLOW, HOST, PORT, VERSION = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
PATIENCE_S = 20
TOPIC = f"aiomqtt/{VERSION}/{FLOW.split('-')[0]}"


def peer(name, keep=False, will=None):
    options = {"clean_session": not keep}
    if VERSION == 5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 600 if keep else 0
        options = {"clean_start": not keep, "properties": properties}
    protocol = aiomqtt.ProtocolVersion.V5 if VERSION == 5 else aiomqtt.ProtocolVersion.V311
    return aiomqtt.Client(HOST, PORT, identifier=f"aiomqtt-{VERSION}-{name}", protocol=protocol, will=will,
                          timeout=PATIENCE_S, **options)


async def message(client):
    return await asyncio.wait_for(anext(aiter(client.messages)), PATIENCE_S)


async def basic():
    async with peer("reader") as reader, peer("writer") as writer:
        await reader.subscribe(f"{TOPIC}/+", qos=2)
        for qos in (0, 1, 2):
            await writer.publish(f"{TOPIC}/{qos}", f"message {qos}", qos=qos)
            got = await message(reader)
            assert (str(got.topic), got.payload, got.qos) == (f"{TOPIC}/{qos}", b"message %d" % qos, qos), got


async def retained():
    async with peer("writer") as writer, peer("reader") as reader:
        await writer.publish(f"{TOPIC}/a", "kept", qos=1, retain=True)
        await reader.subscribe(f"{TOPIC}/#", qos=1)
        got = await message(reader)
        assert got.retain and got.payload == b"kept", got
        await writer.publish(f"{TOPIC}/a", "", qos=1, retain=True)


async def will():
    async with peer("reader") as reader:
        await reader.subscribe(TOPIC, qos=1)
        # A second client of the same name takes over, so the first one's connection ends without its DISCONNECT.
        lost = peer("lost", will=aiomqtt.Will(TOPIC, "lost", qos=1))
        await lost.__aenter__()
        async with peer("lost"):
            assert (await message(reader)).payload == b"lost"


async def session_begin():
    async with peer("kept", keep=True) as reader:
        await reader.subscribe(f"{TOPIC}/#", qos=2)
    async with peer("writer") as writer:
        for qos in (1, 2, 1):
            await writer.publish(f"{TOPIC}/{qos}", f"waits {qos}", qos=qos)


async def session_resume():
    async with peer("kept", keep=True) as reader:
        # The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
        got = [(await message(reader)).payload for _ in range(3)]
        assert sorted(got) == [b"waits 1", b"waits 1", b"waits 2"], got


asyncio.run({"basic": basic, "retained": retained, "will": will,
             "session-begin": session_begin, "session-resume": session_resume}[FLOW]())
