// Flows of MQTT.js, for Node and for a page in a browser. `door` is what `Door` in kit.rs says, with `url` and `options` for MQTT.js.
const PATIENCE_MS = 20_000;
const KEPT_S = 600;
const SHARED = 60;

function equal(got, wanted, what = "") {
  const [one, other] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (one !== other) throw new Error(`${what} got ${one}, not ${other}`);
}

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error("nothing came")), PATIENCE_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/// Runs a flow in each version that the door names.
export async function run(mqtt, flow, door) {
  for (const version of door.versions) {
    const topic = `mqttjs/${version}/${door.url.split(":")[0]}/${flow.split("-")[0]}`;
    try {
      await flows[flow]({ open: (name, more) => Peer.open(mqtt, door, version, name, more), topic, door });
    } catch (error) {
      throw new Error(`version ${version}: ${error.stack ?? error}`);
    }
  }
}

class Peer {
  static async open(mqtt, door, version, name, { keep = false, stays = false, will } = {}) {
    const peer = new Peer();
    peer.waiting = [];
    peer.arrived = [];
    peer.client = mqtt.connect(door.url, {
      ...door.options, clientId: door.device ?? `mqttjs-${version}-${name}`, protocolVersion: version, clean: !keep,
      username: door.user, password: door.password, reconnectPeriod: stays ? 200 : 0, connectTimeout: PATIENCE_MS, will,
      ...(version === 5 ? { properties: { sessionExpiryInterval: keep ? KEPT_S : 0 } } : {}),
      // Messages of a session that goes on may come at once, so their listener is there before the first byte.
      manualConnect: true,
    });
    peer.client.on("message", (name, payload, packet) => {
      const message = { topic: name, payload: payload.toString(), qos: packet.qos, retain: packet.retain };
      const taker = peer.waiting.shift();
      if (taker) taker(message); else peer.arrived.push(message);
    });
    peer.connack = await within(new Promise((resolve, reject) => {
      peer.client.once("connect", resolve).once("error", reject).once("close", () => reject(new Error("closed")));
      peer.client.connect();
    }));
    // What goes wrong later is seen where something is awaited.
    peer.client.on("error", () => {});
    return peer;
  }
  message() {
    if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)));
  }
  async payload() { return (await this.message()).payload; }
  async subscribe(filter, qos) {
    const granted = await within(this.client.subscribeAsync(filter, { qos }));
    equal(granted[0].qos, qos, "granted");
  }
  publish(name, payload, qos, retain = false) {
    return within(this.client.publishAsync(name, payload, { qos, retain }));
  }
  leave() { return within(this.client.endAsync()); }
  /// Without a DISCONNECT.
  vanish() { this.client.stream.destroy(); }
}

const flows = {
  async basic({ open, topic }) {
    const [reader, writer] = [await open("reader"), await open("writer")];
    await reader.subscribe(`${topic}/+`, 2);
    for (const qos of [0, 1, 2]) {
      await writer.publish(`${topic}/${qos}`, `message ${qos}`, qos);
      equal(await reader.message(), { topic: `${topic}/${qos}`, payload: `message ${qos}`, qos, retain: false });
    }
    // MQTT.js sends as fast as it is told to, without waiting for acks in 3.1.1.
    await Promise.all(Array.from({ length: 100 }, (_, number) => writer.publish(`${topic}/many`, `${number}`, 1)));
    for (let number = 0; number < 100; number += 1) equal(await reader.payload(), `${number}`);
    await reader.leave();
    await writer.leave();
  },
  async retained({ open, topic }) {
    const [writer, early, late] = [await open("writer"), await open("early"), await open("late")];
    await writer.publish(`${topic}/a`, "of a", 1, true);
    await writer.publish(`${topic}/b`, "of b", 2, true);
    const seen = ({ payload, retain }) => [payload, retain];
    await early.subscribe(`${topic}/#`, 1);
    const both = [await early.message(), await early.message()].map(seen);
    equal(both.sort(), [["of a", true], ["of b", true]]);
    await writer.publish(`${topic}/a`, "", 1, true);
    equal(await early.message(), { topic: `${topic}/a`, payload: "", qos: 1, retain: false });
    await late.subscribe(`${topic}/#`, 1);
    await writer.publish(`${topic}/a`, "not kept", 1);
    equal([await late.message(), await late.message()].map(seen), [["of b", true], ["not kept", false]]);
    await writer.publish(`${topic}/b`, "", 1, true);
    for (const peer of [writer, early, late]) await peer.leave();
  },
  async will({ open, topic }) {
    const will = (payload) => ({ topic, payload, qos: 1, retain: false });
    const reader = await open("reader");
    await reader.subscribe(topic, 1);
    await (await open("polite", { will: will("polite") })).leave();
    (await open("lost", { will: will("lost") })).vanish();
    equal(await reader.payload(), "lost");
    await reader.publish(topic, "end", 1);
    equal(await reader.payload(), "end");
    await reader.leave();
  },
  /// One whose client comes back in time is not sent; the next one is, a second after its client was lost.
  async "will-delay"({ open, topic }) {
    const will = (payload, willDelayInterval) => ({ topic, payload, qos: 1, properties: { willDelayInterval } });
    const reader = await open("reader");
    await reader.subscribe(topic, 1);
    (await open("lost", { keep: true, will: will("too early", 60) })).vanish();
    const back = await open("lost", { keep: true, will: will("lost", 1) });
    equal(back.connack.sessionPresent, true, "session present");
    await back.publish(topic, "back", 1);
    equal(await reader.payload(), "back");
    back.vanish();
    equal(await reader.payload(), "lost");
    await reader.publish(topic, "end", 1);
    equal(await reader.payload(), "end");
    await reader.leave();
  },
  async shared({ open, topic }) {
    const members = [await open("member0"), await open("member1")];
    const got = [[], []];
    const all = new Promise((resolve) => members.forEach((member, number) => member.client.on("message", (_, payload) => {
      got[number].push(Number(payload.toString()));
      if (got[0].length + got[1].length === SHARED) resolve();
    })));
    for (const member of members) await member.subscribe(`$share/group/${topic}`, 1);
    const writer = await open("writer");
    for (let number = 0; number < SHARED; number += 1) await writer.publish(topic, `${number}`, 1);
    await within(all);
    for (const peer of [...members, writer]) await peer.leave();
    const sorted = [...got[0], ...got[1]].sort((one, other) => one - other);
    equal(sorted, Array.from({ length: SHARED }, (_, number) => number));
    equal(got.every((its) => its.length > 0), true, "both take part");
  },
  async "session-begin"({ open, topic }) {
    const reader = await open("kept", { keep: true });
    equal(reader.connack.sessionPresent, false, "session present");
    await reader.subscribe(`${topic}/#`, 2);
    await reader.leave();
    const writer = await open("writer");
    for (const qos of [1, 2, 1]) await writer.publish(`${topic}/${qos}`, `waits ${qos}`, qos);
    await writer.leave();
  },
  async "session-resume"({ open, topic }) {
    const reader = await open("kept", { keep: true });
    equal(reader.connack.sessionPresent, true, "session present");
    // The client shows a QoS 2 message at PUBREL, which may be after a later QoS 1 message.
    const got = [await reader.message(), await reader.message(), await reader.message()];
    equal(got.map(({ payload, qos }) => [payload, qos]).sort(), [["waits 1", 1], ["waits 1", 1], ["waits 2", 2]]);
    await reader.publish(`${topic}/1`, "end", 1);
    equal(await reader.payload(), "end");
    await reader.leave();
  },
  /// The server is killed and comes back meanwhile: the client finds its way by itself.
  async stay({ open, topic }) {
    const device = await open("stays", { keep: true, stays: true });
    await device.subscribe(`${topic}/+`, 2);
    const back = new Promise((resolve) => device.client.once("connect", resolve));
    console.log(`stays on ${topic}`);
    equal((await within(back)).sessionPresent, true, "session present");
    equal(await device.payload(), "after");
    await device.publish(`${topic}/own`, "own", 2);
    equal(await device.payload(), "own");
    await device.leave();
  },
  /// What was pushed to the device comes without a subscription; its own topics are open to it.
  async pushed({ open, door }) {
    const device = await open("pushed");
    const { topic, payload } = await device.message();
    equal([topic, payload], ["$push/text", `for ${door.device}`]);
    await device.subscribe(`device/${door.device}/+`, 1);
    await device.publish(`device/${door.device}/a`, "own", 1);
    equal(await device.payload(), "own");
    await device.leave();
  },
  async refused({ open }) {
    const outcome = await open("refused").then(() => "let in", () => "refused");
    equal(outcome, "refused");
  },
};
