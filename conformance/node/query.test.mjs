// Twin queries through azure-iothub: pages of twins, raw rows, and the classes of its errors.

import assert from 'node:assert/strict';
import azureIotCommon from 'azure-iot-common';
import { hub, newId } from './hub.mjs';
import { IOTHUB, check } from './suite.mjs';

const { errors } = azureIotCommon;
const { registry } = hub;
const it = (operation, behaviour, run, options) => check(IOTHUB, operation, behaviour, run, options);

/** Checks by name: the SDK bundles a second copy of the error classes. */
const rejectsWith = (promise, kind) => assert.rejects(promise, (error) => error.constructor.name === kind.name);

/** Registers `count` devices with a tag of their own and returns their ids and the condition that finds them. */
async function newFleet(count) {
  const fleet = newId();
  const ids = Array.from({ length: count }, (_, n) => `${fleet}-${String(n).padStart(3, '0')}`);
  await registry.addDevices(ids.map((deviceId) => ({ deviceId })));
  await Promise.all(ids.map((id, n) => registry.updateTwin(id, { tags: { fleet, n } }, '*')));
  return { ids, where: `tags.fleet = '${fleet}'` };
}

it('query: twins', 'rows become Twin objects that can be updated', async () => {
  const { ids, where } = await newFleet(1);
  const query = registry.createQuery(`SELECT * FROM devices WHERE ${where}`);
  const { result, message } = await query.nextAsTwin();
  assert.equal(message.headers['x-ms-item-type'], 'Twin');
  assert.equal(query.hasMoreResults, false);
  const [twin] = result;
  assert.equal(twin.deviceId, ids[0]);
  await twin.update({ tags: { by: 'query' } });
  assert.equal(twin.tags.by, 'query');
  const { responseBody } = await registry.getTwin(ids[0]);
  assert.equal(responseBody.tags.by, 'query');
});

it('query: twins', 'a module has a row of its own', async () => {
  const { deviceId } = await hub.newDevice();
  await hub.newModule(deviceId);
  const text = `SELECT * FROM devices.modules WHERE deviceId = '${deviceId}'`;
  const { result } = await registry.createQuery(text).nextAsTwin();
  assert.deepEqual(result.map((twin) => [twin.deviceId, twin.moduleId]), [[deviceId, 'valve']]);
});

it('query: paging', 'hasMoreResults and the token lead through all pages', async () => {
  const { ids, where } = await newFleet(23);
  const query = registry.createQuery(`SELECT * FROM devices WHERE ${where}`, 5);
  const seen = [];
  const sizes = [];
  while (query.hasMoreResults) {
    const { result } = await query.nextAsTwin();
    sizes.push(result.length);
    seen.push(...result.map((twin) => twin.deviceId));
  }
  assert.deepEqual(seen, ids);
  assert.deepEqual(sizes, [5, 5, 5, 5, 3]);
});

it('query: paging', 'an exact multiple ends without an empty page', async () => {
  const { where } = await newFleet(4);
  const query = registry.createQuery(`SELECT * FROM devices WHERE ${where}`, 2);
  await query.nextAsTwin();
  assert.equal(query.hasMoreResults, true);
  assert.equal((await query.nextAsTwin()).result.length, 2);
  assert.equal(query.hasMoreResults, false);
});

it('query: paging', 'a token of its own starts where it says', async () => {
  const { ids, where } = await newFleet(3);
  const text = `SELECT * FROM devices WHERE ${where}`;
  const first = registry.createQuery(text, 2);
  await first.nextAsTwin();
  const second = registry.createQuery(text, 2);
  const { result } = await second.nextAsTwin(first.continuationToken);
  assert.deepEqual(result.map((twin) => twin.deviceId), [ids[2]]);
  const foreign = registry.createQuery(`${text} AND tags.n = 1`).nextAsTwin(first.continuationToken);
  await rejectsWith(foreign, errors.ArgumentError);
});

it('query: projections and aggregates', 'rows of a projection come as they are', async () => {
  const { ids, where } = await newFleet(2);
  const text = `SELECT deviceId, tags.n AS version FROM devices WHERE ${where}`;
  const { result, message } = await registry.createQuery(text).next();
  assert.equal(message.headers['x-ms-item-type'], 'Raw');
  assert.deepEqual(result, [{ deviceId: ids[0], version: 0 }, { deviceId: ids[1], version: 1 }]);
});

it('query: projections and aggregates', 'counts by group', async () => {
  const { where } = await newFleet(5);
  const select = 'SELECT tags.fleet AS fleet, COUNT() AS n, MAX(tags.n) AS last';
  const text = `${select} FROM devices WHERE ${where} GROUP BY tags.fleet`;
  const { result } = await registry.createQuery(text).next();
  assert.deepEqual(result.map(({ n, last }) => [n, last]), [[5, 4]]);
});

it('query: errors', 'a malformed query is an ArgumentError that tells where', async () => {
  await assert.rejects(registry.createQuery('SELECT * FROM devices WHERE tags.a = = 1').nextAsTwin(), (error) => {
    assert.equal(error.constructor.name, errors.ArgumentError.name);
    assert.match(error.responseBody, /line 1(:|, column )38/i);
    return true;
  });
});
