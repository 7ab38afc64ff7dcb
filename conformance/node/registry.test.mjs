// azure-iothub's Registry: identities, bulk operations, statistics and the classes of its errors.

import assert from 'node:assert/strict';
import azureIotCommon from 'azure-iot-common';
import azureIothub from 'azure-iothub';
import { hub, newId, newKey } from './hub.mjs';
import { IOTHUB, check } from './suite.mjs';

const { errors } = azureIotCommon;
const { registry } = hub;
const it = (operation, behaviour, run, options) => check(IOTHUB, operation, behaviour, run, options);

/** Checks by name: the SDK bundles a second copy of the error classes. */
const rejectsWith = (promise, kind) => assert.rejects(promise, (error) => error.constructor.name === kind.name);

it('device: create with keys', 'makes keys for the empty ones of the default object', async () => {
  const deviceId = newId();
  const { responseBody: device, httpResponse } = await registry.create({ deviceId });
  assert.equal(httpResponse.statusCode, 200);
  assert.equal(device.deviceId, deviceId);
  assert.equal(device.status, 'enabled');
  assert.equal(device.connectionState, 'Disconnected');
  const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
  assert.ok(Buffer.from(primaryKey, 'base64').length >= 16);
  assert.notEqual(primaryKey, secondaryKey);
});

it('device: create with keys', 'keeps the keys it is given', async () => {
  const symmetricKey = { primaryKey: newKey(), secondaryKey: newKey() };
  const { responseBody } = await registry.create({ deviceId: newId(), authentication: { symmetricKey } });
  assert.deepEqual(responseBody.authentication.symmetricKey, symmetricKey);
});

it('device: create with X.509 thumbprints', 'keeps both thumbprints', async () => {
  const x509Thumbprint = { primaryThumbprint: 'A1'.repeat(20), secondaryThumbprint: 'B2'.repeat(32) };
  const { responseBody } = await registry.create({ deviceId: newId(), authentication: { x509Thumbprint } });
  assert.equal(responseBody.authentication.type, 'selfSigned');
  assert.deepEqual(responseBody.authentication.x509Thumbprint, x509Thumbprint);
});

it('device: create CA-signed', 'needs no keys', async () => {
  const authentication = { type: 'certificateAuthority' };
  const { responseBody } = await registry.create({ deviceId: newId(), authentication });
  assert.equal(responseBody.authentication.type, 'certificateAuthority');
});

it('device: create with keys', 'an existing id is a DeviceAlreadyExistsError', async () => {
  const { deviceId } = await hub.newDevice();
  await rejectsWith(registry.create({ deviceId }), errors.DeviceAlreadyExistsError);
});

it('device: create with keys', 'an impossible id is an ArgumentError', async () => {
  await rejectsWith(registry.create({ deviceId: 'a b' }), errors.ArgumentError);
});

it('device: read', 'returns what was created', async () => {
  const { responseBody: created } = await registry.create({ deviceId: newId() });
  const { responseBody: read } = await registry.get(created.deviceId);
  assert.deepEqual({ ...read }, { ...created });
});

it('device: read', 'an unknown device is a DeviceNotFoundError', async () => {
  await rejectsWith(registry.get(newId()), errors.DeviceNotFoundError);
});

it('device: list', 'lists', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody: devices } = await registry.list();
  assert.ok(devices.some((device) => device.deviceId === deviceId));
});

it('device: update', 'changes status, reason and keys', async () => {
  const { deviceId } = await hub.newDevice();
  const symmetricKey = { primaryKey: newKey(), secondaryKey: newKey() };
  const change = { deviceId, status: 'disabled', statusReason: 'lost', authentication: { symmetricKey } };
  const { responseBody } = await registry.update(change);
  assert.equal(responseBody.status, 'disabled');
  assert.equal(responseBody.statusReason, 'lost');
  assert.deepEqual(responseBody.authentication.symmetricKey, symmetricKey);
});

it('device: update', 'an unknown device is a DeviceNotFoundError', async () => {
  await rejectsWith(registry.update({ deviceId: newId(), status: 'enabled' }), errors.DeviceNotFoundError);
});

it('device: delete', 'deletes once, then knows no such device', async () => {
  const { deviceId } = await hub.newDevice();
  await registry.delete(deviceId);
  await rejectsWith(registry.get(deviceId), errors.DeviceNotFoundError);
  await rejectsWith(registry.delete(deviceId), errors.DeviceNotFoundError);
});

it('service sign-in and rights', 'a wrong key is an UnauthorizedError', async () => {
  const wrong = hub.connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${newKey()}`);
  await rejectsWith(azureIothub.Registry.fromConnectionString(wrong).list(), errors.UnauthorizedError);
});

it('service sign-in and rights', 'a shared access signature is as good as a connection string', async () => {
  const { SharedAccessKeyName: policy, SharedAccessKey: key } = azureIothub.ConnectionString.parse(hub.connectionString);
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  const token = azureIotCommon.SharedAccessSignature.create(hub.hostname, policy, key, expiry).toString();
  await azureIothub.Registry.fromSharedAccessSignature(token).list();
});

// ---------------------------------------------------------------- modules

it('module: create', 'makes keys', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody } = await registry.addModule({ deviceId, moduleId: 'valve', managedBy: 'tests' });
  assert.equal(responseBody.managedBy, 'tests');
  assert.ok(responseBody.authentication.symmetricKey.primaryKey);
});

it('module: read', 'reads one and lists all', async () => {
  const { deviceId } = await hub.newDevice();
  await hub.newModule(deviceId, 'a');
  await hub.newModule(deviceId, 'b');
  const { responseBody: one } = await registry.getModule(deviceId, 'a');
  assert.equal(one.moduleId, 'a');
  const { responseBody: all } = await registry.getModulesOnDevice(deviceId);
  assert.deepEqual(all.map((module) => module.moduleId).sort(), ['a', 'b']);
});

it('module: update', 'changes the owner', async () => {
  const { deviceId } = await hub.newDevice();
  await hub.newModule(deviceId);
  const { responseBody: module } = await registry.getModule(deviceId, 'valve');
  const { responseBody } = await registry.updateModule({ ...module, managedBy: 'others' });
  assert.equal(responseBody.managedBy, 'others');
});

it('module: delete', 'removes the module and leaves the device', async () => {
  const { deviceId } = await hub.newDevice();
  await hub.newModule(deviceId);
  await registry.removeModule(deviceId, 'valve');
  const { responseBody } = await registry.getModulesOnDevice(deviceId);
  assert.deepEqual(responseBody, []);
});

// ---------------------------------------------------------------- bulk

it('bulk: create', 'adds, updates and removes a hundred devices', async () => {
  const devices = Array.from({ length: 100 }, () => ({ deviceId: newId() }));
  const added = await registry.addDevices(devices);
  assert.deepEqual(added.responseBody, { isSuccessful: true, errors: [], warnings: [] });
  const changes = devices.map(({ deviceId }) => ({ deviceId, status: 'disabled' }));
  const updated = await registry.updateDevices(changes, true);
  assert.equal(updated.responseBody.isSuccessful, true);
  const { responseBody: one } = await registry.get(devices[42].deviceId);
  assert.equal(one.status, 'disabled');
  const removed = await registry.removeDevices(devices, true);
  assert.equal(removed.responseBody.isSuccessful, true);
  await rejectsWith(registry.get(devices[0].deviceId), errors.DeviceNotFoundError);
});

it('bulk: partial failure', 'a known id fails alone', async () => {
  const { deviceId: known } = await hub.newDevice();
  const fresh = newId();
  // This SDK turns the 400 of a partial failure into an ArgumentError; what could be done is done.
  await rejectsWith(registry.addDevices([{ deviceId: known }, { deviceId: fresh }]), errors.ArgumentError);
  const { responseBody } = await registry.get(fresh);
  assert.equal(responseBody.deviceId, fresh);
});

it('bulk: update', 'updates with matching etags only', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody: device } = await registry.get(deviceId);
  const changed = await registry.updateDevices([{ deviceId, status: 'disabled', etag: device.etag }], false);
  assert.equal(changed.responseBody.isSuccessful, true);
  const stale = registry.updateDevices([{ deviceId, status: 'enabled', etag: device.etag }], false);
  await rejectsWith(stale, errors.ArgumentError);
});

it('statistics', 'counts devices', async () => {
  await hub.newDevice();
  const { responseBody } = await registry.getRegistryStatistics();
  assert.ok(responseBody.totalDeviceCount >= 1);
  assert.equal(responseBody.totalDeviceCount, responseBody.enabledDeviceCount + responseBody.disabledDeviceCount);
});

// ---------------------------------------------------------------- twins

it('twin: read', 'a fresh twin', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody: twin } = await registry.getTwin(deviceId);
  assert.equal(twin.deviceId, deviceId);
  assert.equal(twin.etag, 'AAAAAAAAAAE=');
  assert.equal(twin.properties.desired.$version, 1);
});

it('twin: read', 'an unknown device is a DeviceNotFoundError', async () => {
  await rejectsWith(registry.getTwin(newId()), errors.DeviceNotFoundError);
});

it('twin: update', 'merges tags and desired', async () => {
  const { deviceId } = await hub.newDevice();
  await registry.updateTwin(deviceId, { tags: { a: 1, b: { c: 2 } } }, '*');
  const patch = { tags: { b: { c: null, d: 3 } }, properties: { desired: { interval: 30 } } };
  const { responseBody: twin } = await registry.updateTwin(deviceId, patch, '*');
  assert.deepEqual(twin.tags, { a: 1, b: { d: 3 } });
  assert.equal(twin.properties.desired.interval, 30);
});

it('twin: update', 'through the twin object', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody: twin } = await registry.getTwin(deviceId);
  await twin.update({ tags: { by: 'twin' } });
  assert.deepEqual(twin.tags, { by: 'twin' });
});

it('twin: modules', 'has a twin of its own', async () => {
  const { deviceId } = await hub.newDevice();
  await hub.newModule(deviceId);
  const patch = { properties: { desired: { open: 40 } } };
  await registry.updateModuleTwin(deviceId, 'valve', patch, '*');
  const { responseBody: twin } = await registry.getModuleTwin(deviceId, 'valve');
  assert.equal(twin.moduleId, 'valve');
  assert.equal(twin.properties.desired.open, 40);
});

it('twin: rules and limits', 'a key with a dot is an ArgumentError', async () => {
  const { deviceId } = await hub.newDevice();
  await rejectsWith(registry.updateTwin(deviceId, { tags: { 'a.b': 1 } }, '*'), errors.ArgumentError);
});

it('conditional writes (If-Match)', 'a stale etag is an InvalidEtagError', async () => {
  const { deviceId } = await hub.newDevice();
  const { responseBody: twin } = await registry.getTwin(deviceId);
  await registry.updateTwin(deviceId, { tags: { a: 1 } }, twin.etag);
  await rejectsWith(registry.updateTwin(deviceId, { tags: { a: 2 } }, twin.etag), errors.InvalidEtagError);
});
