// One `ostler serve` process. Plain data in, plain data out, so that a description can travel through the environment:
// the launcher starts a hub, a test may kill it and start it again on the same address and data.

import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { eventually } from './wait.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const START_DEADLINE = 30_000;

function canListen(address, port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, address, () => probe.close(() => resolve(true)));
  });
}

export async function freeLoopbackAddress() {
  for (;;) {
    const address = `127.${randomInt(1, 250)}.${randomInt(0, 250)}.${randomInt(1, 250)}`;
    if ((await canListen(address, 8883)) && (await canListen(address, 443))) return address;
  }
}

/** Where a hub will live. With `data` it keeps a folder and may be started more than once. */
export async function plan({ data = false } = {}) {
  const address = await freeLoopbackAddress();
  const folder = mkdtempSync(path.join(tmpdir(), 'ostler-conformance-'));
  return { address, folder, data, hostname: `hub-${address.replaceAll('.', '-')}.ostler.test` };
}

export const logTail = ({ folder }) =>
  readFileSync(path.join(folder, 'hub.log'), 'utf8').split('\n').slice(-40).join('\n');

/** Starts the hub and returns the child once it accepts, with its ready file's content as `description`. */
export async function launch({ address, folder, data, hostname }) {
  const ready = path.join(folder, 'ready.json');
  rmSync(ready, { force: true });
  const binary = process.env.OSTLER_BIN ?? path.join(HERE, '../../target/debug/ostler');
  const log = openSync(path.join(folder, 'hub.log'), 'a');
  const storage = data ? ['--data', path.join(folder, 'data')] : ['--ephemeral'];
  const listen = ['--bind', address, '--mqtt-port', '8883', '--https-port', '443'];
  const rest = ['--hostname', hostname, '--ready-file', ready];
  // The suite signs in wrongly often, and always from the same address.
  const env = { ...process.env, OSTLER_SIGN_IN_FAILURE_BURST: '1000000' };
  const child = spawn(binary, ['serve', ...storage, ...listen, ...rest], { stdio: ['ignore', log, log], env });
  const accepting = () => {
    if (child.exitCode !== null) throw new Error(`the hub ended with ${child.exitCode}:\n${logTail({ folder })}`);
    return existsSync(ready);
  };
  await eventually(accepting, 'a ready hub', START_DEADLINE);
  return { child, description: JSON.parse(readFileSync(ready, 'utf8')) };
}
