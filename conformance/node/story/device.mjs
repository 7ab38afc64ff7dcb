// A device as its maker would write it: it reports its firmware, and takes 20 seconds to reboot when asked to.

import azureIotDevice from 'azure-iot-device';
import azureIotDeviceMqtt from 'azure-iot-device-mqtt';

const { Mqtt, MqttWs } = azureIotDeviceMqtt;
const transport = process.env.TRANSPORT === 'MQTT over WebSocket' ? MqttWs : Mqtt;
const client = azureIotDevice.Client.fromConnectionString(process.env.DEVICE_CONNECTION_STRING, transport);

await client.open();
const twin = await client.getTwin();
const report = (patch) =>
  new Promise((resolve, reject) => {
    twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
  });

client.onDeviceMethod('rebootDevice', (request, response) => {
  setTimeout(async () => {
    await report({ rebootTime: '2030-01-02T03:04:05Z' });
    response.send(200, { rebooted: true, delay: request.payload.delay }, () => undefined);
  }, 20_000);
});
await report({ firmware: '1.4.2' });
console.log('ready');
