//! stub
pub(crate) mod artifact;
