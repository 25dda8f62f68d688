//! What tests, measurements and fuzz targets need of the library, from within it.

pub(crate) mod alone;
#[cfg(test)]
pub(crate) mod deadline;
pub mod fuzzing;
pub mod inner;
