// The hub under test: one `ostler serve` process, or the real service when OSTLER_AGAINST_AZURE names one.

import { spawn } from 'node:child_process';
import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { fileURLToPath } from 'node:url';
import azureIothub from 'azure-iothub';
import { names } from './resolver.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const START_DEADLINE = 30_000;

export const againstAzure = process.env.OSTLER_AGAINST_AZURE;

/** Resolves with the first true value of `check`, which is asked until `timeout` (ms) has passed. */
export async function eventually(check, what = 'the condition', timeout = 15_000) {
  const deadline = Date.now() + timeout;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not come true within ${timeout} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Rejects if `promise` takes longer than `timeout` (ms): several SDK calls would wait for ever. */
export function within(promise, what, timeout = 25_000) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${timeout} ms`)), timeout);
  });
  return Promise.race([promise, expired]).finally(() => clearTimeout(timer));
}

function canListen(address, port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}

async function freeLoopbackAddress() {
  for (;;) {
    const address = `127.${randomInt(1, 250)}.${randomInt(0, 250)}.${randomInt(1, 250)}`;
    if ((await canListen(address, 8883)) && (await canListen(address, 443))) return address;
  }
}

class Hub {
  take(connectionString, ca) {
    this.connectionString = connectionString;
    this.hostname = /HostName=([^;]+)/.exec(connectionString)[1];
    this.ca = ca;
  }

  get registry() {
    return azureIothub.Registry.fromConnectionString(this.connectionString);
  }

  get client() {
    return azureIothub.Client.fromConnectionString(this.connectionString);
  }

  /** Registers a device with keys of its own and returns how to sign in as it. */
  async newDevice(description = {}) {
    const deviceId = `node-${randomUUID().slice(0, 13)}`;
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

  stop() {}
}

class LocalHub extends Hub {
  constructor(data) {
    super();
    this.data = data;
    this.folder = mkdtempSync(path.join(tmpdir(), 'ostler-conformance-'));
  }

  async start() {
    if (!this.address) {
      this.address = await freeLoopbackAddress();
      this.name = `hub-${this.address.replaceAll('.', '-')}.ostler.test`;
      names.set(this.name, this.address);
    }
    const ready = path.join(this.folder, 'ready.json');
    rmSync(ready, { force: true });
    const binary = process.env.OSTLER_BIN ?? path.join(HERE, '../../target/debug/ostler');
    const log = openSync(path.join(this.folder, 'hub.log'), 'a');
    const storage = this.data ? ['--data', path.join(this.folder, 'data')] : ['--ephemeral'];
    const listen = ['--bind', this.address, '--mqtt-port', '8883', '--https-port', '443'];
    const rest = ['--hostname', this.name, '--ready-file', ready];
    this.process = spawn(binary, ['serve', ...storage, ...listen, ...rest], { stdio: ['ignore', log, log] });
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    process.once('exit', () => this.process.kill('SIGKILL'));
    await eventually(
      () => {
        if (this.process.exitCode !== null) throw new Error(`the hub ended:\n${this.log()}`);
        return existsSync(ready);
      },
      'a ready hub',
      START_DEADLINE,
    );
    const description = JSON.parse(readFileSync(ready, 'utf8'));
    this.caFile = description.caFile;
    this.take(description.connectionString, readFileSync(description.caFile, 'utf8'));
    const trusted = https.globalAgent.options.ca ?? [...tls.rootCertificates];
    https.globalAgent.options.ca = [...trusted, this.ca];
    return this;
  }

  log() {
    return readFileSync(path.join(this.folder, 'hub.log'), 'utf8').split('\n').slice(-40).join('\n');
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  async stop() {
    this.process.kill('SIGTERM');
    await this.ended;
  }
}

/** A hub for one file of tests; `data: true` gives it a folder, so that it may be killed and started again. */
export async function startHub({ data = false } = {}) {
  if (againstAzure && !data) {
    const hub = new Hub();
    hub.take(againstAzure, undefined);
    return hub;
  }
  return new LocalHub(data).start();
}

export const newKey = () => randomBytes(32).toString('base64');
