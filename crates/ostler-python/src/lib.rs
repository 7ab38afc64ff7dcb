//! The native half of the Python packages `iothub_client` and `iothub_service_client`.

use pyo3::prelude::*;

/// What the Python halves import.
#[pymodule]
mod ostler_native {}
