// azure-iot-device over both MQTT transports: sign-in, telemetry, twin, methods, and what it survives.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { X509Certificate } from 'node:crypto';
import azureIotDevice from 'azure-iot-device';
import { Device, TRANSPORTS } from './device.mjs';
import { hub, newKey } from './hub.mjs';
import { relayBefore } from './relay.mjs';
import { DEVICE, IOTHUB, check } from './suite.mjs';
import { eventually, within } from './wait.mjs';

const { Message } = azureIotDevice;
const { registry } = hub;

function selfSigned(name) {
  const folder = mkdtempSync(path.join(tmpdir(), 'ostler-conformance-'));
  const [keyFile, certFile] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = ['-subj', `/CN=${name}`, '-days', '7', '-keyout', keyFile, '-out', certFile];
  execFileSync('openssl', ['req', '-x509', ...curve, ...subject], { stdio: 'ignore' });
  const cert = readFileSync(certFile, 'utf8');
  const thumbprint = new X509Certificate(cert).fingerprint.replaceAll(':', '');
  const key = readFileSync(keyFile, 'utf8');
  rmSync(folder, { recursive: true });
  return { cert, key, thumbprint };
}

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  const it = (operation, behaviour, run) =>
    check(`${DEVICE} ${name}`, operation, behaviour, async () => {
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
    });

  it('sign-in: key', 'connects and shows as connected', async (open) => {
    const identity = await hub.newDevice();
    await open(identity);
    const connected = async () => (await registry.get(identity.deviceId)).responseBody.connectionState === 'Connected';
    await eventually(connected, 'the connection in the registry');
  });

  it('sign-in: refused', 'a wrong key is an UnauthorizedError', async (open) => {
    const { connectionString } = await hub.newDevice();
    const wrong = { connectionString: connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${newKey()}`) };
    await assert.rejects(open(wrong, { retry: false }), { name: 'UnauthorizedError' });
  });

  it('sign-in: refused', 'a disabled device is an UnauthorizedError', async (open) => {
    const identity = await hub.newDevice({ status: 'disabled' });
    await assert.rejects(open(identity, { retry: false }), { name: 'UnauthorizedError' });
  });

  it('sign-in: X.509 thumbprint', 'signs in with a certificate', async (open) => {
    const { cert, key, thumbprint } = selfSigned('node-device');
    const x509Thumbprint = { primaryThumbprint: thumbprint, secondaryThumbprint: thumbprint };
    const { deviceId } = await hub.newDevice({ authentication: { type: 'selfSigned', x509Thumbprint } });
    const connectionString = `HostName=${hub.hostname};DeviceId=${deviceId};x509=true`;
    const device = await open({ connectionString }, { options: { cert, key } });
    assert.equal((await device.twin()).properties.desired.$version, 1);
  });

  it('sign-in: modules', 'a module signs in with its own key', async (open) => {
    const { deviceId } = await hub.newDevice();
    const device = await open(await hub.newModule(deviceId));
    const twin = await device.twin();
    await device.report(twin, { open: 40 });
    const { responseBody } = await registry.getModuleTwin(deviceId, 'valve');
    assert.equal(responseBody.properties.reported.open, 40);
  });

  it('telemetry', 'messages with properties are acknowledged', async (open) => {
    const device = await open(await hub.newDevice());
    const message = new Message(JSON.stringify({ temperature: 21.5 }));
    message.messageId = 'id 1+/';
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('k e', "v&=/+$~'");
    await within(device.client.sendEvent(message), 'the acknowledgement');
    await within(device.client.sendEvent(new Message('')), 'the acknowledgement of an empty message');
    const many = Array.from({ length: 100 }, (_, number) => device.client.sendEvent(new Message(`${number}`)));
    await within(Promise.all(many), 'a hundred acknowledgements');
  });

  it('telemetry', 'a module sends to an output', async (open) => {
    const { deviceId } = await hub.newDevice();
    const device = await open(await hub.newModule(deviceId));
    await within(device.client.sendOutputEvent('alerts', new Message('x')), 'the acknowledgement');
  });

  it('twin: read', 'sees desired and reported', async (open) => {
    const identity = await hub.newDevice();
    await registry.updateTwin(identity.deviceId, { tags: { t: 1 }, properties: { desired: { interval: 30 } } }, '*');
    const twin = await (await open(identity)).twin();
    const { desired, reported } = JSON.parse(JSON.stringify(twin.properties));
    assert.deepEqual(desired, { interval: 30, $version: 2 });
    assert.deepEqual(reported, { $version: 1 });
  });

  it('twin: report', 'merges and removes', async (open) => {
    const identity = await hub.newDevice();
    const device = await open(identity);
    const twin = await device.twin();
    await device.report(twin, { fw: '1', net: { ip: '10.0.0.1', mac: 'aa' } });
    await device.report(twin, { net: { mac: null } });
    const { responseBody } = await registry.getTwin(identity.deviceId);
    const { $metadata, $version, ...values } = responseBody.properties.reported;
    assert.deepEqual(values, { fw: '1', net: { ip: '10.0.0.1' } });
    assert.equal($version, 3);
    assert.ok($metadata.fw.$lastUpdated);
  });

  it('twin: errors', 'a forbidden key fails the callback', async (open) => {
    const device = await open(await hub.newDevice());
    const twin = await device.twin();
    await assert.rejects(device.report(twin, { 'a.b': 1 }));
    await device.report(twin, { fine: true });
  });

  it('twin: errors', 'a section over 32 KiB fails the callback', async (open) => {
    const device = await open(await hub.newDevice());
    const twin = await device.twin();
    const tooMuch = Object.fromEntries(Array.from({ length: 9 }, (_, number) => [`k${number}`, 'x'.repeat(4000)]));
    await assert.rejects(device.report(twin, tooMuch));
  });

  it('twin: desired notifications', 'patches arrive as they are made', async (open) => {
    const identity = await hub.newDevice();
    const device = await open(identity);
    const patches = await device.heardDesired(registry, identity.deviceId);
    const patch = { properties: { desired: { last: { deep: true } } } };
    await registry.updateTwin(identity.deviceId, patch, '*');
    await eventually(async () => (await patches.next()).last, 'the last patch');
    await registry.updateTwin(identity.deviceId, { properties: { desired: { last: null } } }, '*');
    assert.equal((await patches.next()).last, null);
  });

  it('methods', 'answers, with a payload and without', async (open) => {
    const identity = await hub.newDevice();
    const device = await open(identity);
    device.onMethod('echo', (request) => [201, { got: request.payload }]);
    const invoke = async (payload) => {
      const call = { methodName: 'echo', payload, responseTimeoutInSeconds: 15, connectTimeoutInSeconds: 15 };
      return (await hub.client.invokeDeviceMethod(identity.deviceId, call)).result;
    };
    assert.deepEqual(await invoke({ a: [1, null] }), { status: 201, payload: { got: { a: [1, null] } } });
    assert.deepEqual(await invoke('text'), { status: 201, payload: { got: 'text' } });
    const silent = await invoke(undefined);
    assert.equal(silent.status, 201);
  });

  it('reconnect: after a cut', 'twin, notifications and methods work again', async (open) => {
    const relay = await relayBefore(hub);
    try {
      const identity = await hub.newDevice();
      const device = await open(identity);
      const twin = await device.twin();
      const patches = device.desired(twin);
      device.onMethod('echo', (request) => [200, request.payload]);
      const invoke = async (payload) => {
        const call = { methodName: 'echo', payload, responseTimeoutInSeconds: 20, connectTimeoutInSeconds: 20 };
        return (await hub.client.invokeDeviceMethod(identity.deviceId, call)).result.payload;
      };
      assert.equal(await invoke('before'), 'before');
      relay.cut();
      assert.equal(await invoke('after'), 'after');
      await device.report(twin, { stamp: 'after' });
      await registry.updateTwin(identity.deviceId, { properties: { desired: { stamp: 'after' } } }, '*');
      while ((await patches.next()).stamp !== 'after');
      await device.close();
    } finally {
      relay.close();
    }
  });

  it('takeover', 'the newest connection wins', async (open) => {
    const identity = await hub.newDevice();
    const first = await open(identity, { retry: false });
    const gone = first.disconnected();
    const second = await open(identity);
    await gone;
    assert.equal((await second.twin()).properties.desired.$version, 1);
  });

  it('thrown out: disabled, deleted, keys changed', 'disabling ends the connection', async (open) => {
    const identity = await hub.newDevice();
    const device = await open(identity, { retry: false });
    const gone = device.disconnected();
    await registry.update({ deviceId: identity.deviceId, status: 'disabled' });
    await gone;
  });
}

// ---------------------------------------------------------------- the service side of methods

const service = (operation, behaviour, run) => check(IOTHUB, operation, behaviour, run);

service('method: invoke on a device', 'returns status and payload', async () => {
  const identity = await hub.newDevice();
  const device = await new Device(hub, identity, TRANSPORTS.MQTT).open();
  device.onMethod('reboot', (request) => [200, { in: request.payload.delay }]);
  const call = { methodName: 'reboot', payload: { delay: 5 }, connectTimeoutInSeconds: 10, responseTimeoutInSeconds: 10 };
  const { result, message } = await hub.client.invokeDeviceMethod(identity.deviceId, call);
  assert.deepEqual(result, { status: 200, payload: { in: 5 } });
  assert.equal(message.statusCode, 200);
  await device.close();
});

service('method: invoke on a module', 'reaches the module', async () => {
  const { deviceId } = await hub.newDevice();
  const module = await new Device(hub, await hub.newModule(deviceId), TRANSPORTS.MQTT).open();
  module.onMethod('open', () => [200, 'opened']);
  const call = { methodName: 'open', connectTimeoutInSeconds: 10, responseTimeoutInSeconds: 10 };
  const { result } = await hub.client.invokeDeviceMethod(deviceId, 'valve', call);
  assert.deepEqual(result, { status: 200, payload: 'opened' });
  await module.close();
});

service('method: not online', 'an offline device is an error with 404', async () => {
  const { deviceId } = await hub.newDevice();
  await assert.rejects(hub.client.invokeDeviceMethod(deviceId, { methodName: 'm' }), (error) => {
    assert.equal(error.response.statusCode, 404);
    assert.equal(error.response.headers['iothub-errorcode'], 'DeviceNotOnline');
    return true;
  });
});

service('method: response timeout', 'no answer is a GatewayTimeoutError', async () => {
  const identity = await hub.newDevice();
  const device = await new Device(hub, identity, TRANSPORTS.MQTT).open();
  device.onMethod('slow', () => new Promise(() => undefined));
  const call = { methodName: 'slow', connectTimeoutInSeconds: 5, responseTimeoutInSeconds: 5 };
  await assert.rejects(hub.client.invokeDeviceMethod(identity.deviceId, call), (error) => {
    assert.equal(error.constructor.name, 'GatewayTimeoutError');
    return true;
  });
  await device.close();
});
