//! Parts of the library for tests, measurements and fuzz targets alone, which look at it from within.

pub(crate) mod alone;
#[cfg(test)]
pub(crate) mod deadline;
pub mod fuzzing;
pub mod inner;
