//! Parts of the library for tests, measurements and fuzz targets only, which look at the library from within.

pub(crate) mod alone;
#[cfg(test)]
mod api;
#[cfg(test)]
pub(crate) mod deadline;
pub mod fuzzing;
pub mod inner;
