// Records what Azure's own Node service SDK (azure-iothub 1.16.6) sends, one JSON document a line.
//
// No network: the HTTP module's last step is replaced by one that writes the request down and answers something plausible.
// Run as `node record.mjs > node.jsonl` where the SDK is installed.

import { createRequire } from "node:module";
import { EventEmitter } from "node:events";
import https from "node:https";

const require = createRequire(process.cwd() + "/");
const iothub = require("azure-iothub");
const connectionString = "HostName=h.example;SharedAccessKeyName=service;SharedAccessKey=AAECAwQFBgcICQoLDA0ODw==";
const kept = ["if-match", "x-ms-max-item-count", "x-ms-continuation", "content-type"];
let operation;

https.request = (options, answer) => {
  const request = new EventEmitter();
  let body = "";
  const headers = Object.fromEntries(Object.entries(options.headers).map(([name, value]) => [name.toLowerCase(), String(value)]));
  request.setHeader = (name, value) => { headers[name.toLowerCase()] = String(value); };
  request.setTimeout = () => request;
  request.destroy = () => request;
  request.write = (text) => { body += text; };
  request.end = (text) => {
    body += text ?? "";
    const [path, query] = options.path.split("?");
    console.log(JSON.stringify({
      operation, method: options.method, path, query: query ?? "",
      headers: Object.fromEntries(kept.filter((name) => name in headers).map((name) => [name, headers[name]])),
      body: body ? JSON.parse(body) : null,
    }));
    const response = new EventEmitter();
    response.statusCode = options.method === "DELETE" ? 204 : 200;
    response.headers = { "x-ms-item-type": "Twin", "content-type": "application/json; charset=utf-8" };
    response.setEncoding = () => {};
    process.nextTick(() => {
      answer(response);
      if (response.statusCode === 200) response.emit("data", path.endsWith("query") ? "[]" : JSON.stringify({ deviceId: "d", moduleId: "m" }));
      response.emit("end");
    });
  };
  return request;
};

const registry = iothub.Registry.fromConnectionString(connectionString);
const client = iothub.Client.fromConnectionString(connectionString);
const jobs = iothub.JobClient.fromConnectionString(connectionString);
const patch = { tags: { site: "A" }, properties: { desired: { interval: 30 } } };
const lock = { methodName: "lockDoor", payload: { delay: 5 }, responseTimeoutInSeconds: 30, connectTimeoutInSeconds: 0 };
const start = new Date("2026-01-31T03:00:00Z");
const configuration = {
  id: "fans-1", schemaVersion: "1.0", content: { deviceContent: { "properties.desired.fan": 2 } },
  targetCondition: "tags.site='A'", priority: 10, etag: "MQ==",
};

const calls = {
  create_device: () => registry.create({ deviceId: "pump-7" }),
  update_device: () => registry.update({ deviceId: "pump-7", status: "disabled" }),
  device: () => registry.get("a+b#c%d"),
  delete_device: () => registry.delete("pump-7"),
  modules: () => registry.getModulesOnDevice("pump-7"),
  module: () => registry.getModule("pump-7", "valve"),
  create_module: () => registry.addModule({ deviceId: "pump-7", moduleId: "valve" }),
  device_statistics: () => registry.getRegistryStatistics(),
  bulk: () => registry.addDevices([{ deviceId: "pump-1" }, { deviceId: "pump-2" }]),
  twin: () => registry.getTwin("pump-7"),
  patch_twin: () => registry.updateTwin("pump-7", patch, "AAAAAAAAAAE="),
  patch_module_twin: () => registry.updateModuleTwin("pump-7", "valve", patch, "*"),
  query: () => registry.createQuery("SELECT * FROM devices", 50).next("token"),
  invoke: () => client.invokeDeviceMethod("pump-7", lock),
  invoke_module: () => client.invokeDeviceMethod("pump-7", "valve", lock),
  create_method_job: () => jobs.scheduleDeviceMethod("lock-1", "tags.site='A'", lock, start, 3600),
  create_twin_job: () => jobs.scheduleTwinUpdate("twin-1", "*", { etag: "*", ...patch }, start, 60),
  job: () => jobs.getJob("lock-1"),
  cancel_job: () => jobs.cancelJob("lock-1"),
  configuration: () => registry.getConfiguration("fans-1"),
  create_configuration: () => registry.addConfiguration(configuration),
  update_configuration: () => registry.updateConfiguration(configuration),
  delete_configuration: () => registry.removeConfiguration("fans-1"),
  apply_configuration_content: () =>
    registry.applyConfigurationContentOnDevice("gateway-1", { modulesContent: { cooler: { "properties.desired.fan": 2 } } }),
};

for (const [name, call] of Object.entries(calls)) {
  operation = name;
  try {
    await call();
  } catch (error) {
    console.error(`${name}: ${error}`);
  }
}
