"""The clients that judge the hub, by the names under which docs/compatibility.md lists them."""

from importlib.metadata import version

HUB_SDK = f"azure-iot-hub {version('azure-iot-hub')}"
DEVICE_SDK = f"azure-iot-device {version('azure-iot-device')}"
PAHO = f"paho-mqtt {version('paho-mqtt')}"
HTTPS = "HTTPS"
