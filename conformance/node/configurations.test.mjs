// Automatic device configurations through azure-iothub's Registry.

import assert from 'node:assert/strict';
import azureIotCommon from 'azure-iot-common';
import { Device, TRANSPORTS } from './device.mjs';
import { hub, newId } from './hub.mjs';
import { IOTHUB, check } from './suite.mjs';
import { eventually } from './wait.mjs';

const { errors } = azureIotCommon;
const { registry } = hub;
const it = (operation, behaviour, run, options) => check(IOTHUB, operation, behaviour, run, options);
const rejectsWith = (promise, kind) => assert.rejects(promise, (error) => error.constructor.name === kind.name);

const deviceContent = { 'properties.desired.cooling': { fan: 2 } };
const configuration = (fields = {}) => ({
  id: `cfg-${newId()}`,
  schemaVersion: '1.0',
  targetCondition: '',
  priority: 10,
  labels: { app: 'cooling' },
  content: { deviceContent },
  ...fields,
});

it('configuration: create, read, list', 'keeps what it is given', async () => {
  const wanted = configuration({ metrics: { queries: { all: 'SELECT deviceId FROM devices WHERE tags.a = 1' } } });
  await registry.addConfiguration(wanted);
  const { responseBody: read } = await registry.getConfiguration(wanted.id);
  for (const key of ['id', 'targetCondition', 'priority', 'labels', 'content']) {
    assert.deepEqual(read[key], wanted[key], key);
  }
  assert.deepEqual(read.metrics.queries, wanted.metrics.queries);
  const { responseBody: all } = await registry.getConfigurations();
  assert.ok(all.some(({ id }) => id === wanted.id));
  await registry.removeConfiguration(wanted.id);
  await assert.rejects(registry.getConfiguration(wanted.id), (error) => error.response.statusCode === 404);
});

it('configuration: create, read, list', 'an existing id is a conflict', async () => {
  const wanted = configuration();
  await registry.addConfiguration(wanted);
  await assert.rejects(registry.addConfiguration(wanted), (error) => error.response.statusCode === 409);
  await registry.removeConfiguration(wanted.id);
});

it('configuration: update and delete', 'updates with its etag and by force', async () => {
  const { responseBody: made } = await registry.addConfiguration(configuration());
  const { responseBody: second } = await registry.updateConfiguration({ ...made, priority: 11 });
  assert.equal(second.priority, 11);
  assert.notEqual(second.etag, made.etag);
  await rejectsWith(registry.updateConfiguration({ ...made, priority: 12 }), errors.InvalidEtagError);
  const { responseBody: third } = await registry.updateConfiguration({ ...made, priority: 12 }, true);
  assert.equal(third.priority, 12);
  const other = { ...made, content: { deviceContent: { 'properties.desired.x': 1 } } };
  await rejectsWith(registry.updateConfiguration(other, true), errors.ArgumentError);
  await registry.removeConfiguration(made.id);
});

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  it('configuration: apply', `a device over ${name} is told and its twin says so`, async () => {
    const identity = await hub.newDevice();
    const { deviceId } = identity;
    const device = await new Device(hub, identity, transport).open();
    const wanted = configuration({ targetCondition: `tags.team = '${deviceId}'` });
    try {
      const patches = await device.heardDesired(registry, deviceId);
      await registry.addConfiguration(wanted);
      await registry.updateTwin(deviceId, { tags: { team: deviceId } }, '*');
      let patch;
      do patch = await patches.next(); while (!patch.cooling);
      assert.deepEqual(patch.cooling, { fan: 2 });
      const { responseBody: twin } = await registry.getTwin(deviceId);
      assert.deepEqual(twin.configurations, { [wanted.id]: { status: 'Applied' } });
      await registry.removeConfiguration(wanted.id);
      const bare = async () => !(await registry.getTwin(deviceId)).responseBody.properties.desired.cooling;
      await eventually(bare, 'the removal of what was set');
    } finally {
      await device.close();
      await registry.removeConfiguration(wanted.id).catch(() => undefined); // it is gone already
    }
  });
}

it('configuration: modules and edge', 'content is applied to an edge device', async () => {
  const { deviceId } = await hub.newDevice({ capabilities: { iotEdge: true } });
  const modulesContent = {
    $edgeAgent: { 'properties.desired': { schemaVersion: '1.1', modules: {} } },
    $edgeHub: { 'properties.desired': { schemaVersion: '1.1', routes: {} } },
  };
  await registry.applyConfigurationContentOnDevice(deviceId, { modulesContent });
  const { responseBody: agent } = await registry.getModuleTwin(deviceId, '$edgeAgent');
  assert.equal(agent.properties.desired.schemaVersion, '1.1');
});

it('configuration: modules and edge', 'a device that is no edge device is an ArgumentError', async () => {
  const { deviceId } = await hub.newDevice();
  const content = { modulesContent: { $edgeAgent: { 'properties.desired': {} } } };
  await rejectsWith(registry.applyConfigurationContentOnDevice(deviceId, content), errors.ArgumentError);
});
