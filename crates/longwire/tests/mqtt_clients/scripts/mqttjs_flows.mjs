// Flows of MQTT.js: mqttjs_flows.mjs FLOW URL VERSION(4|5). Ends with 0 when all went as it must.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const mqtt = createRequire(`${process.env.MQTTJS_HOME}/`)("mqtt");
const [flow, url, version] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const topic = `mqttjs/${version}/${new URL(url).protocol.slice(0, -1)}/${flow.split("-")[0]}`;
const PATIENCE_MS = 20_000;

class Peer {
  static async open(name, { keep = false, will } = {}) {
    const peer = new Peer();
    peer.waiting = [];
    peer.arrived = [];
    const options = {
      clientId: `mqttjs-${version}-${name}`, protocolVersion: version, clean: !keep, reconnectPeriod: 0,
      connectTimeout: PATIENCE_MS, will,
      ...(version === 5 ? { properties: { sessionExpiryInterval: keep ? 600 : 0 } } : {}),
    };
    // Messages of a session that goes on may come at once, so their listener is there before the first byte.
    peer.client = mqtt.connect(url, { ...options, manualConnect: true });
    peer.client.on("message", (name, payload, packet) => {
      const message = { topic: name, payload: payload.toString(), qos: packet.qos, retain: packet.retain };
      const taker = peer.waiting.shift();
      if (taker) taker(message); else peer.arrived.push(message);
    });
    peer.connack = await new Promise((resolve, reject) => {
      peer.client.once("connect", resolve).once("error", reject);
      peer.client.connect();
    });
    return peer;
  }
  message() {
    if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no message")), PATIENCE_MS);
      this.waiting.push((message) => { clearTimeout(timer); resolve(message); });
    });
  }
  async subscribe(filter, qos) {
    const granted = await this.client.subscribeAsync(filter, { qos });
    assert.equal(granted[0].qos, qos);
  }
  publish(name, payload, qos, retain = false) { return this.client.publishAsync(name, payload, { qos, retain }); }
  leave() { return this.client.endAsync(); }
}

const flows = {
  async basic() {
    const [reader, writer] = [await Peer.open("reader"), await Peer.open("writer")];
    await reader.subscribe(`${topic}/+`, 2);
    for (const qos of [0, 1, 2]) {
      await writer.publish(`${topic}/${qos}`, `message ${qos}`, qos);
      assert.deepEqual(await reader.message(), { topic: `${topic}/${qos}`, payload: `message ${qos}`, qos, retain: false });
    }
    // MQTT.js sends as fast as it is told to, without waiting for acks in 3.1.1.
    const all = Array.from({ length: 100 }, (_, number) => writer.publish(`${topic}/many`, `${number}`, 1));
    await Promise.all(all);
    for (let number = 0; number < 100; number += 1) assert.equal((await reader.message()).payload, `${number}`);
    await reader.leave();
    await writer.leave();
  },
  async retained() {
    const writer = await Peer.open("writer");
    await writer.publish(`${topic}/a`, "kept", 1, true);
    const reader = await Peer.open("reader");
    await reader.subscribe(`${topic}/#`, 1);
    assert.deepEqual(await reader.message(), { topic: `${topic}/a`, payload: "kept", qos: 1, retain: true });
    await writer.publish(`${topic}/a`, "", 1, true);
    await reader.leave();
    await writer.leave();
  },
  async will() {
    const reader = await Peer.open("reader");
    await reader.subscribe(topic, 1);
    const lost = await Peer.open("lost", { will: { topic, payload: Buffer.from("lost"), qos: 1, retain: false } });
    lost.client.stream.destroy();
    assert.equal((await reader.message()).payload, "lost");
    await reader.leave();
  },
  async "session-begin"() {
    const reader = await Peer.open("kept", { keep: true });
    await reader.subscribe(`${topic}/#`, 2);
    await reader.leave();
    const writer = await Peer.open("writer");
    for (const qos of [1, 2, 1]) await writer.publish(`${topic}/${qos}`, `waits ${qos}`, qos);
    await writer.leave();
  },
  async "session-resume"() {
    const reader = await Peer.open("kept", { keep: true });
    assert.equal(reader.connack.sessionPresent, true);
    // The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
    const got = [await reader.message(), await reader.message(), await reader.message()].map(({ payload }) => payload);
    assert.deepEqual(got.sort(), ["waits 1", "waits 1", "waits 2"]);
    await reader.leave();
  },
};

await flows[flow]();
process.exit(0);
