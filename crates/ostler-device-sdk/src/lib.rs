//! Async client for devices of Ostler and Azure IoT Hub.
