// A back end as its maker would write it: reads the twin, reboots the device, and reads when it came back.

import azureIothub from 'azure-iothub';

const { SERVICE_CONNECTION_STRING: text, DEVICE_ID: deviceId } = process.env;
const registry = azureIothub.Registry.fromConnectionString(text);
const client = azureIothub.Client.fromConnectionString(text);

const { responseBody: before } = await registry.getTwin(deviceId);
const call = {
  methodName: 'rebootDevice',
  payload: { delay: 20 },
  responseTimeoutInSeconds: 60,
  connectTimeoutInSeconds: 10,
};
const { result } = await client.invokeDeviceMethod(deviceId, call);
const { responseBody: after } = await registry.getTwin(deviceId);
console.log(
  JSON.stringify({ firmware: before.properties.reported.firmware, result, reported: after.properties.reported }),
);
