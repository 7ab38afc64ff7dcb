// How a case is written down: by judge, operation and behaviour. The name carries all three to record.mjs.

import { after, test } from 'node:test';
import { againstAzure } from './hub.mjs';
import { readFileSync } from 'node:fs';

const version = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;

export const IOTHUB = `azure-iothub ${version('azure-iothub')}`;
export const DEVICE = `azure-iot-device-mqtt ${version('azure-iot-device-mqtt')}`;

export function check(judge, operation, behaviour, run, options = {}) {
  const skip = againstAzure && options.localOnly ? options.localOnly : false;
  test(`[${judge} | ${operation}] ${behaviour}`, { skip }, run);
}

/** Stops the hub when the file is done; the SDK's sockets must not keep the process waiting. */
export function stopAfter(hub) {
  after(() => hub.stop());
}
