# Tags a device with where it stands, then goes through all devices and prints those that stand there. Queries were no
# part of the package, so programs of the time fetched the twins one by one and searched their text.
#
#     python twin_search.py "<connection string of the hub>" <device id>

import sys

from iothub_service_client import IoTHubDeviceTwin, IoTHubError, IoTHubRegistryManager

CONNECTION_STRING = "[IoTHub Connection String]"
DEVICE_ID = "myDeviceId"

UPDATE_JSON = "{\"tags\": {\"location\": {\"region\": \"US\", \"plant\": \"Redmond43\"}}}"
SEARCHED = "\"plant\":\"Redmond43\""
CELLULAR = "\"connectivity\":\"cellular\""


def main():
    try:
        twins = IoTHubDeviceTwin(CONNECTION_STRING)
        twin_info = twins.update_twin(DEVICE_ID, UPDATE_JSON)
        print("Twin of %s: %s" % (DEVICE_ID, twin_info))

        registry = IoTHubRegistryManager(CONNECTION_STRING)
        number_of_devices = registry.get_statistics().totalDeviceCount
        devices = registry.get_device_list(number_of_devices)

        in_plant = []
        on_cellular = []
        for device in devices:
            twin_info = twins.get_twin(device.deviceId)
            if twin_info.find(SEARCHED) > 0:
                in_plant.append(device.deviceId)
                if twin_info.find(CELLULAR) > 0:
                    on_cellular.append(device.deviceId)
        print("Devices in Redmond43 plant: " + ", ".join(in_plant))
        print("Devices in Redmond43 plant using cellular network: " + ", ".join(on_cellular))
    except IoTHubError as iothub_error:
        print("Unexpected error {0}".format(iothub_error))
        return 1
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 2:
        CONNECTION_STRING, DEVICE_ID = sys.argv[1:3]
    sys.exit(main())
