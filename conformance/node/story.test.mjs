// The reboot story with two programs that know nothing of this suite: they get a connection string and a trusted CA.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe } from 'node:test';
import { TRANSPORTS } from './device.mjs';
import { hub } from './hub.mjs';
import { DEVICE, check } from './suite.mjs';
import { within } from './wait.mjs';

function program(file, environment) {
  const child = spawn(process.execPath, ['--import', './resolver.mjs', file], {
    cwd: new URL('.', import.meta.url),
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
  const lines = createInterface({ input: child.stdout });
  return { child, line: () => within(once(lines, 'line'), `a line of ${file}`, 60_000).then(([text]) => text) };
}

describe('story', { concurrency: true }, () => {
  for (const name of Object.keys(TRANSPORTS)) {
    check(`${DEVICE} ${name}`, 'story: reboot', 'reboots a device and reads when it came back', async () => {
      const { deviceId, connectionString } = await hub.newDevice();
      const device = program('story/device.mjs', { DEVICE_CONNECTION_STRING: connectionString, TRANSPORT: name });
      try {
        assert.equal(await device.line(), 'ready');
        const started = Date.now();
        const environment = { SERVICE_CONNECTION_STRING: hub.connectionString, DEVICE_ID: deviceId };
        const seen = JSON.parse(await program('story/backend.mjs', environment).line());
        assert.ok(Date.now() - started >= 20_000);
        assert.equal(seen.firmware, '1.4.2');
        assert.deepEqual(seen.result, { status: 200, payload: { rebooted: true, delay: 20 } });
        assert.equal(seen.reported.rebootTime, '2030-01-02T03:04:05Z');
      } finally {
        device.child.kill();
      }
    });
  }
});
