//! What the samples share.
