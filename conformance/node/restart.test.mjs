// What azure-iot-device lives through when the hub is killed and comes back on the same data.

import assert from 'node:assert/strict';
import azureIotDevice from 'azure-iot-device';
import { Device, TRANSPORTS } from './device.mjs';
import { mortal as hub } from './hub.mjs';
import { DEVICE, check } from './suite.mjs';
import { eventually, within } from './wait.mjs';

const { Message } = azureIotDevice;

const localOnly = 'kills the hub process';

async function killAndReturn(transport) {
  const identity = await hub.newDevice();
  const device = await new Device(hub, identity, transport).open();
  try {
    const twin = await device.twin();
    const patches = device.desired(twin);
    device.onMethod('echo', (request) => [200, request.payload]);
    const invoke = async (payload) => {
      const call = { methodName: 'echo', payload, responseTimeoutInSeconds: 20, connectTimeoutInSeconds: 20 };
      return (await hub.client.invokeDeviceMethod(identity.deviceId, call)).result.payload;
    };
    assert.equal(await invoke('before'), 'before');
    await device.report(twin, { stamp: 'before' });

    await hub.kill();
    await hub.start();

    assert.equal(await invoke('after'), 'after');
    const { responseBody } = await hub.registry.getTwin(identity.deviceId);
    assert.equal(responseBody.properties.reported.stamp, 'before');
    await device.report(twin, { stamp: 'after' });
    await hub.registry.updateTwin(identity.deviceId, { properties: { desired: { stamp: 'after' } } }, '*');
    while ((await patches.next()).stamp !== 'after');
  } finally {
    await device.close();
  }
}

/** A device that never stops talking: whoever closes on it with unread bytes resets the connection. */
async function stopWhileBusy(transport) {
  const identity = await hub.newDevice();
  const device = await new Device(hub, identity, transport).open();
  const underWay = new Set();
  const talk = async () => {
    const sent = device.client.sendEvent(new Message('x'.repeat(1000))).catch(() => undefined);
    underWay.add(sent);
    await sent;
    underWay.delete(sent);
  };
  const talking = setInterval(() => void Promise.all([talk(), talk(), talk(), talk()]), 1);
  try {
    await talk();
    await hub.stop();
    await hub.start();
    const connected = async () =>
      (await hub.registry.get(identity.deviceId)).responseBody.connectionState === 'Connected';
    await eventually(connected, 'the return of the device', 30_000);
  } finally {
    clearInterval(talking);
    // A message that the SDK still retries would open a closed client again, and this process would never end.
    await within(Promise.all(underWay), 'the end of what was being sent');
    await device.close();
  }
}

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  const behaviour = 'twin, notifications and methods work again';
  check(`${DEVICE} ${name}`, 'reconnect: after kill -9', behaviour, () => killAndReturn(transport), { localOnly });
  const busy = 'a device that was sending comes back';
  check(`${DEVICE} ${name}`, 'reconnect: after a stop', busy, () => stopWhileBusy(transport), { localOnly });
}
