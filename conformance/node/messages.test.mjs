// Cloud-to-device messages as azure-iot-device receives and settles them, over both MQTT transports.

import assert from 'node:assert/strict';
import https from 'node:https';
import azureIotCommon from 'azure-iot-common';
import { Device, TRANSPORTS } from './device.mjs';
import { hub } from './hub.mjs';
import { relayBefore } from './relay.mjs';
import { DEVICE, check } from './suite.mjs';
import { eventually, within } from './wait.mjs';

const { ConnectionString, SharedAccessSignature } = azureIotCommon;
const localOnly = "messages are sent over a route of Ostler's own";
const FEEDBACK = '/messages/serviceBound/feedback';

/** One request as the hub's owner. */
async function request(method, path, { headers = {}, body } = {}) {
  const { SharedAccessKeyName: policy, SharedAccessKey: key } = ConnectionString.parse(hub.connectionString);
  const expiry = Math.floor(Date.now() / 1000) + 600;
  const token = SharedAccessSignature.create(hub.hostname, policy, key, expiry).toString();
  const options = { method, host: hub.hostname, ca: hub.ca, path, headers: { Authorization: token, ...headers } };
  const answer = new Promise((resolve, reject) => {
    const sent = https.request(options, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => {
        resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(pieces).toString() });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
  return within(answer, `${method} ${path}`);
}

async function send(identity, body, headers = {}) {
  const path = `/ostler/v1/devices/${identity.deviceId}/messages`;
  const answer = await request('POST', path, { headers, body });
  assert.equal(answer.status, 200, answer.text);
}

async function outcomes(identity, count) {
  const found = [];
  await eventually(async () => {
    const batch = await request('GET', `${FEEDBACK}?api-version=2021-04-12`);
    if (batch.status === 200) {
      const lock = batch.headers.etag.slice(1, -1);
      assert.equal((await request('DELETE', `${FEEDBACK}/${lock}?api-version=2021-04-12`)).status, 204);
      found.push(...JSON.parse(batch.text).filter(({ deviceId }) => deviceId === identity.deviceId));
    }
    return found.length >= count;
  }, `${count} outcomes`);
  return found;
}

const queued = async ({ deviceId }) =>
  (await hub.registry.get(deviceId)).responseBody.cloudToDeviceMessageCount;

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  const it = (operation, behaviour, run) =>
    check(
      `${DEVICE} ${name}`,
      operation,
      behaviour,
      async () => {
        const opened = [];
        const open = async (identity, options) => {
          const device = new Device(hub, identity, transport, options);
          opened.push(device);
          return device.open();
        };
        try {
          await run(open);
        } finally {
          await Promise.all(opened.map((device) => device.close()));
        }
      },
      { localOnly },
    );

  it('cloud-to-device messages', 'body and properties arrive, and completing one ends it', async (open) => {
    const identity = await hub.newDevice();
    const device = await open(identity);
    const messages = device.messages();
    await send(identity, 'paint\0é', {
      'iothub-messageid': 'm-1',
      'iothub-correlationid': 'c 1+/',
      'iothub-contenttype': 'text/plain',
      'iothub-contentencoding': 'utf-8',
      'iothub-ack': 'full',
      'ostler-properties': 'Colour=r%C3%B6t%20%26&k%20e=v%3D',
    });
    const message = await messages.next();
    assert.equal(message.data.toString(), 'paint\0é');
    assert.equal(message.messageId, 'm-1');
    assert.equal(message.correlationId, 'c 1+/');
    assert.equal(message.contentType, 'text/plain');
    assert.equal(message.contentEncoding, 'utf-8');
    assert.equal(message.properties.getValue('Colour'), 'röt &');
    assert.equal(message.properties.getValue('k e'), 'v=');
    await within(device.client.complete(message), 'completing');
    const [{ originalMessageId, statusCode }] = await outcomes(identity, 1);
    assert.deepEqual([originalMessageId, statusCode], ['m-1', 'Success']);
  });

  it('cloud-to-device messages', 'messages that wait come in order', async (open) => {
    const identity = await hub.newDevice();
    const numbers = [...Array(20).keys()].map(String);
    for (const number of numbers) await send(identity, number);
    assert.equal(await queued(identity), 20);
    const messages = (await open(identity)).messages();
    for (const number of numbers) assert.equal((await messages.next()).data.toString(), number);
    await eventually(async () => (await queued(identity)) === 0, 'the end of the queue');
  });

  it('cloud-to-device messages', 'a message sent during a cut comes after it', async (open) => {
    const relay = await relayBefore(hub);
    try {
      const identity = await hub.newDevice();
      const device = await open(identity);
      const messages = device.messages();
      await send(identity, 'before');
      assert.equal((await messages.next()).data.toString(), 'before');
      // Until its acknowledgement has arrived, it would come again.
      await eventually(async () => (await queued(identity)) === 0, 'the end of the queue');
      relay.cut();
      await send(identity, 'meanwhile');
      assert.equal((await messages.next()).data.toString(), 'meanwhile');
      await device.close();
    } finally {
      relay.close();
    }
  });
}
