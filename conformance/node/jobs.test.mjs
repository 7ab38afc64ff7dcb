// Jobs through azure-iothub's JobClient, carried out on azure-iot-device.

import assert from 'node:assert/strict';
import azureIotCommon from 'azure-iot-common';
import azureIothub from 'azure-iothub';
import { Device, TRANSPORTS } from './device.mjs';
import { hub, newId } from './hub.mjs';
import { IOTHUB, check } from './suite.mjs';
import { eventually } from './wait.mjs';

const { errors } = azureIotCommon;
const { registry } = hub;
const it = (operation, behaviour, run, options) => check(IOTHUB, operation, behaviour, run, options);
const rejectsWith = (promise, kind) => assert.rejects(promise, (error) => error.constructor.name === kind.name);

const client = azureIothub.JobClient.fromConnectionString(hub.connectionString);
const newJobId = () => `job-${newId()}`;
const among = (...ids) => `deviceId IN [${ids.map((id) => `'${id}'`).join(', ')}]`;
const inSeconds = (seconds) => new Date(Date.now() + seconds * 1000);

/** The job as it is when nothing more happens to it. */
function ended(jobId) {
  const over = async () => {
    const { jobStatus } = await client.getJob(jobId);
    return ['completed', 'failed', 'cancelled'].includes(jobStatus.status) && jobStatus;
  };
  return eventually(over, `the end of ${jobId}`, 30_000);
}

/** What the job did to each device. */
async function rows(jobId) {
  const query = registry.createQuery(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`, 2);
  const found = [];
  while (query.hasMoreResults) {
    // Unlike nextAsTwin, `next` without a token asks for the first page again.
    const { result, message } = await query.next(query.continuationToken);
    assert.equal(message.headers['x-ms-item-type'], 'DeviceJob');
    found.push(...result);
  }
  return Object.fromEntries(found.map((row) => [row.deviceId, row]));
}

for (const [name, transport] of Object.entries(TRANSPORTS)) {
  it('job: call a method', `calls devices over ${name} and keeps their answers`, async () => {
    const identities = await Promise.all([hub.newDevice(), hub.newDevice(), hub.newDevice()]);
    const devices = await Promise.all(identities.map((identity) => new Device(hub, identity, transport).open()));
    try {
      devices.forEach((device, n) => device.onMethod('lockDoor', (request) => [200 + n, { got: request.payload }]));
      const jobId = newJobId();
      const ids = identities.map(({ deviceId }) => deviceId);
      const method = { methodName: 'lockDoor', payload: { floor: 3 }, responseTimeoutInSeconds: 20 };
      const { jobStatus } = await client.scheduleDeviceMethod(jobId, among(...ids), method, new Date(), 60);
      assert.equal(jobStatus.jobId, jobId);
      const job = await ended(jobId);
      assert.equal(job.status, 'completed');
      assert.equal(job.type, 'scheduleDeviceMethod');
      const counts = { deviceCount: 3, failedCount: 0, succeededCount: 3, runningCount: 0, pendingCount: 0 };
      assert.deepEqual(job.deviceJobStatistics, counts);
      const found = await rows(jobId);
      ids.forEach((id, n) => {
        assert.equal(found[id].status, 'completed');
        const response = { status: 200 + n, payload: { got: { floor: 3 } } };
        assert.deepEqual(found[id].outcome.deviceMethodResponse, response);
      });
    } finally {
      await Promise.all(devices.map((device) => device.close()));
    }
  });
}

it('job: offline devices', 'a device that does not come in time has failed', async () => {
  const { deviceId } = await hub.newDevice();
  const jobId = newJobId();
  await client.scheduleDeviceMethod(jobId, among(deviceId), { methodName: 'reboot' }, new Date(), 1);
  const job = await ended(jobId);
  assert.equal(job.status, 'completed');
  assert.equal(job.deviceJobStatistics.failedCount, 1);
  const { [deviceId]: row } = await rows(jobId);
  assert.equal(row.error.code, 'JobRunPreconditionFailed');
});

it('job: update twins', 'updates tags and desired', async () => {
  const ids = (await Promise.all([hub.newDevice(), hub.newDevice(), hub.newDevice()])).map(({ deviceId }) => deviceId);
  const jobId = newJobId();
  const patch = { etag: '*', tags: { site: 'B' }, properties: { desired: { floor: 3 } } };
  await client.scheduleTwinUpdate(jobId, among(...ids), patch, new Date(), 60);
  const job = await ended(jobId);
  assert.deepEqual([job.status, job.type], ['completed', 'scheduleUpdateTwin']);
  assert.equal(job.deviceJobStatistics.succeededCount, 3);
  for (const id of ids) {
    const { responseBody: twin } = await registry.getTwin(id);
    assert.deepEqual([twin.tags, twin.properties.desired.floor], [{ site: 'B' }, 3]);
  }
});

it('job: update twins', 'a patch without an etag is forced', async () => {
  const { deviceId } = await hub.newDevice();
  const jobId = newJobId();
  await client.scheduleTwinUpdate(jobId, `deviceId = '${deviceId}'`, { tags: { a: 1 } });
  const job = await ended(jobId);
  assert.equal(job.status, 'completed');
  assert.equal(job.updateTwin.etag, '*');
});

it('job: start time', 'a job in the future is scheduled, then cancelled', async () => {
  const jobId = newJobId();
  const start = inSeconds(3600);
  await client.scheduleTwinUpdate(jobId, "deviceId = 'nobody'", { tags: { a: 1 } }, start, 60);
  const scheduled = await eventually(async () => {
    const { jobStatus } = await client.getJob(jobId);
    return jobStatus.status === 'scheduled' && jobStatus;
  });
  assert.equal(new Date(scheduled.startTime).getTime(), start.getTime());
  const { jobStatus } = await client.cancelJob(jobId);
  assert.equal(jobStatus.status, 'cancelled');
});

it('job: list', 'a query over jobs pages through types and states', async () => {
  const ids = Array.from({ length: 5 }, newJobId);
  for (const id of ids) {
    await client.scheduleTwinUpdate(id, "deviceId = 'nobody'", { tags: { a: 1 } }, inSeconds(3600), 60);
  }
  for (const id of ids) {
    await eventually(async () => (await client.getJob(id)).jobStatus.status === 'scheduled');
  }
  const query = client.createQuery('scheduleUpdateTwin', 'scheduled', 2);
  const found = [];
  while (query.hasMoreResults) {
    const { result, message } = await query.next(query.continuationToken);
    assert.equal(message.headers['x-ms-item-type'], 'JobResponse');
    assert.ok(result.length <= 2);
    found.push(...result);
  }
  for (const job of found) assert.deepEqual([job.type, job.status], ['scheduleUpdateTwin', 'scheduled']);
  const listed = found.map(({ jobId }) => jobId);
  assert.ok(ids.every((id) => listed.includes(id)));
  assert.equal(new Set(listed).size, listed.length);
  await Promise.all(ids.map((id) => client.cancelJob(id)));
});

it('job: errors', 'a condition that does not parse fails the job, not the call', async () => {
  const jobId = newJobId();
  await client.scheduleTwinUpdate(jobId, 'SELECT * FROM devices', { tags: { a: 1 } });
  const job = await ended(jobId);
  assert.equal(job.status, 'failed');
  assert.match(job.failureReason, /line 1(:|, column )29/i);
});

it('job: errors', 'an id is used once', async () => {
  const jobId = newJobId();
  await client.scheduleTwinUpdate(jobId, "deviceId = 'nobody'", { tags: { a: 1 } });
  const again = client.scheduleTwinUpdate(jobId, "deviceId = 'nobody'", { tags: { a: 1 } });
  // The SDK has one class for 409 and calls it by its first use.
  await rejectsWith(again, errors.DeviceAlreadyExistsError);
});

it('job: errors', 'an unknown job is not found', async () => {
  await assert.rejects(client.getJob(newJobId()), (error) => error.response.statusCode === 404);
  await assert.rejects(client.cancelJob(newJobId()), (error) => error.response.statusCode === 404);
});
