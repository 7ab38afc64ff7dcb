// Starts the hubs of the suite, then the command line it was given (node's test runner) with what the tests need to
// know in its environment: the hubs, their names, and NODE_EXTRA_CA_CERTS, which Node reads only when a process starts.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { launch, plan } from './process.mjs';

const [command, ...args] = process.argv.slice(2);
const environment = { ...process.env };
const children = [];
const folders = [];

if (!process.env.OSTLER_AGAINST_AZURE) {
  const plans = { shared: await plan(), mortal: await plan({ data: true }) };
  const hubs = {};
  for (const [name, where] of Object.entries(plans)) {
    folders.push(where.folder);
    const { child, description } = await launch(where);
    children.push(child);
    hubs[name] = { ...where, ...description, pid: child.pid };
  }
  const bundle = path.join(plans.shared.folder, 'trusted.pem');
  writeFileSync(bundle, Object.values(hubs).map(({ caFile }) => readFileSync(caFile, 'utf8')).join('\n'));
  environment.NODE_EXTRA_CA_CERTS = bundle;
  environment.OSTLER_HUBS = JSON.stringify(hubs);
  environment.OSTLER_NAMES = JSON.stringify(
    Object.fromEntries(Object.values(hubs).map(({ hostname, address }) => [hostname, address])),
  );
}

const tests = spawn(command, args, { stdio: 'inherit', env: environment });
tests.once('exit', async (code) => {
  for (const child of children) {
    if (child.kill('SIGTERM')) await once(child, 'exit');
  }
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  process.exitCode = code ?? 1;
});
