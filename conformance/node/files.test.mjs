// File upload with azure-iot-device: its one call that does everything, and its steps one by one.

import assert from 'node:assert/strict';
import { request } from 'node:https';
import { Readable } from 'node:stream';
import azureIothub from 'azure-iothub';
import { Device, TRANSPORTS } from './device.mjs';
import { hub } from './hub.mjs';
import { DEVICE, check } from './suite.mjs';
import { within } from './wait.mjs';

const localOnly = 'needs a storage account behind the hub';
const content = Buffer.alloc(9 << 20, 'ostler '); // three blocks of the SDK

/** A file as the hub has it. */
function stored(deviceId, name) {
  const parts = azureIothub.ConnectionString.parse(hub.connectionString);
  const ends = Math.floor(Date.now() / 1000) + 600;
  const token = azureIothub.SharedAccessSignature.create(
    parts.HostName, parts.SharedAccessKeyName, parts.SharedAccessKey, ends,
  ).toString();
  return new Promise((resolve, reject) => {
    const path = `/ostler/v1/files/${deviceId}/${name}`;
    const call = request({ hostname: hub.hostname, path, headers: { Authorization: token } }, async (answer) => {
      const pieces = [];
      for await (const piece of answer) pieces.push(piece);
      resolve({ status: answer.statusCode, body: Buffer.concat(pieces) });
    });
    call.on('error', reject).end();
  });
}

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  const it = (behaviour, run) =>
    check(`${DEVICE} ${name}`, 'file upload', behaviour, async () => {
      const identity = await hub.newDevice();
      const device = await new Device(hub, identity, transport).open();
      try {
        await run(device, identity.deviceId);
      } finally {
        await device.close();
      }
    }, { localOnly });

  it('uploadToBlob sends a stream in blocks and tells of it', async (device, deviceId) => {
    await within(device.client.uploadToBlob('logs/a.bin', Readable.from([content]), content.length), 'the upload');
    const file = await stored(deviceId, 'logs/a.bin');
    assert.equal(file.status, 200);
    assert.ok(file.body.equals(content));
  });

  it('getBlobSharedAccessSignature and notifyBlobUploadStatus work by themselves', async (device, deviceId) => {
    const info = await within(device.client.getBlobSharedAccessSignature('b.txt'), 'the place');
    assert.equal(info.blobName, `${deviceId}/b.txt`);
    await within(device.client.notifyBlobUploadStatus(info.correlationId, false, 500, 'as the test says'), 'the end');
    assert.equal((await stored(deviceId, 'b.txt')).status, 404);
  });
}
