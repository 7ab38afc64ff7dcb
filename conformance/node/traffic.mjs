// The device of ../python/record_traffic.py: one fixed conversation. It says a step's name when the service is to act, and
// reads a line once that is done.

import { createInterface } from 'node:readline';
import azureIotCommon from 'azure-iot-common';
import { Device, TRANSPORTS } from './device.mjs';
import './resolver.mjs';

const { TRAFFIC_CA: ca, TRAFFIC_CONNECTION: connectionString, TRAFFIC_MODULE: moduleId } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function act(step) {
  process.stdout.write(`${step}\n`);
  if ((await lines.next()).value !== 'done') throw new Error(`nobody did ${step}`);
}

const device = new Device({ ca }, { connectionString, moduleId }, TRANSPORTS.MQTT);
await device.open();
const twin = await device.twin();
await device.report(twin, { firmware: { version: '1.0', slot: 'a' }, oldKey: null });
const patches = device.desired(twin);
await patches.next(); // the SDK starts with the whole section
await act('desired');
await patches.next();
device.onMethod('reboot', () => [202, { accepted: true }]);
await act('method');

const message = new azureIotCommon.Message('{"celsius":21.5}');
message.messageId = 'id 1+/';
message.contentType = 'application/json';
message.contentEncoding = 'utf-8';
message.properties.add('k e', "v&=/+$~'");
if (moduleId) {
  await device.client.sendOutputEvent('alarms', message);
} else {
  await device.client.sendEvent(message);
  const messages = device.messages();
  await act('message');
  await messages.next();
}
await device.close();
process.exit(0);
