// mqttjs_node.mjs FLOW DOOR: a flow of MQTT.js in Node, over TCP, WebSocket, and either inside TLS. Ends with 0 when all went as it must.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { run } from "./mqttjs_flows.mjs";

const mqtt = createRequire(`${process.env.MQTTJS_HOME}/`)("mqtt");
const [flow, door] = [process.argv[2], JSON.parse(process.argv[3])];
const read = (path) => (path ? readFileSync(path) : undefined);
const schemes = { stream: ["mqtt", "mqtts"], websocket: ["ws", "wss"] };
door.url = `${schemes[door.layer][door.ca ? 1 : 0]}://${door.host}:${door.port}/mqtt`;
const keys = door.ca ? { ca: read(door.ca), cert: read(door.certificate), key: read(door.key) } : {};
// The `ws` package reads options of its own.
door.options = { ...keys, wsOptions: { ...keys, localAddress: door.from } };
await run(mqtt, flow, door);
process.exit(0);
