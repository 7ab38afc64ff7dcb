// azure-iot-device over one of its two MQTT transports, with promises around what the SDK says through callbacks.

import { EventEmitter, on, once } from 'node:events';
import azureIotCommon from 'azure-iot-common';
import azureIotDevice from 'azure-iot-device';
import azureIotDeviceMqtt from 'azure-iot-device-mqtt';
import { eventually, within } from './wait.mjs';

const { Client, ModuleClient } = azureIotDevice;
const { NoRetry } = azureIotCommon;
const { Mqtt, MqttWs } = azureIotDeviceMqtt;

export const TRANSPORTS = { MQTT: Mqtt, 'MQTT over WebSocket': MqttWs };

export class Device {
  constructor(hub, identity, transport, { retry = true, options = {} } = {}) {
    const Kind = identity.moduleId ? ModuleClient : Client;
    this.client = Kind.fromConnectionString(identity.connectionString, transport);
    this.options = { ca: hub.ca, ...options };
    this.news = new EventEmitter();
    this.client.on('error', (error) => this.news.emit('trouble', error));
    if (!retry) this.client.setRetryPolicy(new NoRetry());
  }

  async open() {
    await this.client.setOptions(this.options);
    await within(this.client.open(), 'opening the connection');
    return this;
  }

  close() {
    return within(this.client.close(), 'closing the connection').catch(() => undefined);
  }

  disconnected() {
    return within(once(this.client, 'disconnect'), 'the end of the connection');
  }

  twin() {
    return within(this.client.getTwin(), 'a twin');
  }

  report(twin, patch) {
    const done = new Promise((resolve, reject) => {
      twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
    });
    return within(done, 'the answer to a report');
  }

  /** The messages from now on, as an async iterator with a deadline per item. */
  messages() {
    const messages = on(this.news, 'message');
    this.client.on('message', (message) => this.news.emit('message', message));
    return { next: () => within(messages.next(), 'a message').then(({ value }) => value[0]) };
  }

  /** The desired patches from now on, as an async iterator with a deadline per item. */
  desired(twin) {
    const patches = on(this.news, 'desired');
    twin.on('properties.desired', (patch) => this.news.emit('desired', structuredClone(patch)));
    return { next: () => within(patches.next(), 'a desired patch').then(({ value }) => value[0]) };
  }

  /**
   * Like `desired`, once a first patch has come. The SDK subscribes behind our back and tells nobody when that is
   * done, so the patch is repeated until one arrives.
   */
  async heardDesired(registry, deviceId) {
    const patches = this.desired(await this.twin());
    await patches.next(); // the SDK starts with the whole section
    let number = 0;
    const first = patches.next();
    const heard = first.then(() => true);
    await eventually(async () => {
      await registry.updateTwin(deviceId, { properties: { desired: { number: ++number } } }, '*');
      return Promise.race([heard, new Promise((resolve) => setTimeout(resolve, 100, false))]);
    }, 'the first patch');
    return patches;
  }

  onMethod(name, answer) {
    const handler = async (request, response) => {
      const [status, payload] = await answer(request);
      response.send(status, payload, () => undefined);
    };
    if (this.client.onDeviceMethod) this.client.onDeviceMethod(name, handler);
    else this.client.onMethod(name, handler);
  }
}
