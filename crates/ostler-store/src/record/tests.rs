//! Tests of the record format, see `mod.rs`.
