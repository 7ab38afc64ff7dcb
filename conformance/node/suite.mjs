// How a case is written down: by judge, operation and behaviour. The name carries all three to record.mjs.

import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { againstAzure } from './hub.mjs';

const version = (name) =>
  JSON.parse(readFileSync(new URL(`./node_modules/${name}/package.json`, import.meta.url))).version;

export const IOTHUB = `azure-iothub ${version('azure-iothub')}`;
export const DEVICE = `azure-iot-device-mqtt ${version('azure-iot-device-mqtt')}`;

/** `localOnly` says why a case cannot run against the real service. */
export function check(judge, operation, behaviour, run, { localOnly } = {}) {
  const skip = againstAzure && localOnly ? localOnly : false;
  test(`[${judge} | ${operation}] ${behaviour}`, { skip }, run);
}
