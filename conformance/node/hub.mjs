// The hubs under test, as launch.mjs described them, or the real service when OSTLER_AGAINST_AZURE names one.

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after } from 'node:test';
import azureIothub from 'azure-iothub';
import { launch } from './process.mjs';
import './resolver.mjs';
import { eventually } from './wait.mjs';

export const againstAzure = process.env.OSTLER_AGAINST_AZURE;
const described = JSON.parse(process.env.OSTLER_HUBS ?? '{}');

const made = [];

/** An id that no other test uses; on a real hub the device is removed when the file is done. */
export function newId() {
  made.push(`node-${process.pid}-${Date.now().toString(36)}-${made.length}`);
  return made.at(-1);
}

class Hub {
  constructor(connectionString, caFile) {
    this.connectionString = connectionString;
    this.hostname = /HostName=([^;]+)/.exec(connectionString)[1];
    this.ca = caFile && readFileSync(caFile, 'utf8');
  }

  get registry() {
    return azureIothub.Registry.fromConnectionString(this.connectionString);
  }

  get client() {
    return azureIothub.Client.fromConnectionString(this.connectionString);
  }

  /** Registers a device with keys of its own and returns how to sign in as it. */
  async newDevice(description = {}) {
    const deviceId = newId();
    const { responseBody } = await this.registry.create({ deviceId, ...description });
    const key = responseBody.authentication.symmetricKey?.primaryKey;
    return { deviceId, key, connectionString: `HostName=${this.hostname};DeviceId=${deviceId};SharedAccessKey=${key}` };
  }

  async newModule(deviceId, moduleId = 'valve') {
    const { responseBody } = await this.registry.addModule({ deviceId, moduleId });
    const key = responseBody.authentication.symmetricKey.primaryKey;
    const text = `HostName=${this.hostname};DeviceId=${deviceId};ModuleId=${moduleId};SharedAccessKey=${key}`;
    return { deviceId, moduleId, key, connectionString: text };
  }
}

/** A hub on a data folder that a test may kill and start again. */
class MortalHub extends Hub {
  constructor(where) {
    super(where.connectionString, where.caFile);
    this.where = where;
    this.pid = where.pid;
  }

  async kill() {
    process.kill(this.pid, 'SIGKILL');
    await eventually(() => !isAlive(this.pid), 'the end of the hub');
  }

  async stop() {
    process.kill(this.pid, 'SIGTERM');
    await eventually(() => !isAlive(this.pid), 'the end of the hub');
  }

  async start() {
    const { child } = await launch(this.where);
    this.pid = child.pid;
    child.unref();
    process.once('exit', () => child.kill('SIGKILL'));
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export const hub = againstAzure
  ? new Hub(againstAzure)
  : new Hub(described.shared.connectionString, described.shared.caFile);
export const mortal = described.mortal && new MortalHub(described.mortal);

export const newKey = () => randomBytes(32).toString('base64');

if (againstAzure) {
  after(async () => {
    for (let start = 0; start < made.length; start += 100) {
      const devices = made.slice(start, start + 100).map((deviceId) => ({ deviceId }));
      await hub.registry.removeDevices(devices, true).catch(() => undefined); // some are gone already
    }
  });
}
