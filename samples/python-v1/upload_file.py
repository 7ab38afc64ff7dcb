# Uploads a file to the store of the hub.
#
#   python upload_file.py "<device connection string>" [file]

import os
import sys
import time

from iothub_client import IoTHubClient, IoTHubError, IoTHubTransportProvider

CONNECTION_STRING = sys.argv[1] if len(sys.argv) > 1 else os.environ["IOTHUB_DEVICE_CONNECTION_STRING"]
PATH = sys.argv[2] if len(sys.argv) > 2 else __file__
PROTOCOL = IoTHubTransportProvider.HTTP
DONE = []


def blob_upload_conf_callback(result, user_context):
    if str(result) == 'OK':
        print("...file uploaded successfully.")
    else:
        print("...file upload callback returned: " + str(result))
    DONE.append(result)


def main():
    try:
        print("IoT Hub file upload sample, press Ctrl-C to exit")
        client = IoTHubClient(CONNECTION_STRING, PROTOCOL)
        with open(PATH, 'r') as f:
            content = f.read()
        client.upload_blob_async(os.path.basename(PATH), content, len(content), blob_upload_conf_callback, 0)
        print("File upload initiated...")
        while not DONE:
            time.sleep(1)
    except IoTHubError as iothub_error:
        print("Unexpected error %s from IoTHub" % iothub_error)
        return
    except KeyboardInterrupt:
        print("IoTHubClient sample stopped")


if __name__ == '__main__':
    main()
