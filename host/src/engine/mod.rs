//! stub
use crate::Result;
use std::path::Path;
/// stub
#[derive(Debug)]
pub struct Module;
impl Module {
    /// stub
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> { let _ = path; Ok(Self) }
}
