# Creates a device, shows what the registry knows of it, disables it, lists devices, counts them, and deletes it again.
#
#     python registry_manager.py "<connection string of the hub>" <device id>

import sys

from iothub_service_client import IoTHubDeviceStatus, IoTHubRegistryManager, IoTHubRegistryManagerAuthMethod
from iothub_service_client import IoTHubRegistryManagerError, IoTHubRegistryManagerResult

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"
LISTED = 5

ATTRIBUTES = [
    "deviceId", "primaryKey", "secondaryKey", "connectionState", "status", "lastActivityTime",
    "cloudToDeviceMessageCount", "isManaged", "configuration", "deviceProperties", "serviceProperties", "authMethod",
    "statusReason", "statusUpdatedTime", "connectionStateUpdatedTime", "eTag", "generationId",
]


def print_device(title, device):
    print("%s:" % title)
    for attribute in ATTRIBUTES:
        print("    {0:28}= {1}".format(attribute, getattr(device, attribute)))


def create(registry):
    auth_method = IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY
    try:
        return registry.create_device(DEVICE_ID, "", "", auth_method)
    except IoTHubRegistryManagerError as error:
        if error.args[0].result == IoTHubRegistryManagerResult.DEVICE_EXIST:
            print("%s is there already" % DEVICE_ID)
            return registry.get_device(DEVICE_ID)
        raise


def main():
    try:
        registry = IoTHubRegistryManager(CONNECTION_STRING)
        device = create(registry)
        print_device("CreateDevice", device)

        registry.update_device(DEVICE_ID, device.primaryKey, device.secondaryKey, IoTHubDeviceStatus.DISABLED,
                               IoTHubRegistryManagerAuthMethod.SHARED_PRIVATE_KEY)
        print_device("GetDevice", registry.get_device(DEVICE_ID))

        for number, listed in enumerate(registry.get_device_list(LISTED)):
            print("%d: %s" % (number, listed.deviceId))

        statistics = registry.get_statistics()
        print("Devices: {0}, enabled: {1}, disabled: {2}".format(
            statistics.totalDeviceCount, statistics.enabledDeviceCount, statistics.disabledDeviceCount))

        registry.delete_device(DEVICE_ID)
        print("Deleted %s" % DEVICE_ID)
    except IoTHubRegistryManagerError as iothub_registry_manager_error:
        print("Unexpected error {0}".format(iothub_registry_manager_error))
        return 1
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 2:
        CONNECTION_STRING, DEVICE_ID = sys.argv[1:3]
    sys.exit(main())
