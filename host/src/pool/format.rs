//! How inputs and outputs of tasks are written.

/// Format of the input and the output of a task. A task of the Rust SDK knows all formats.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) -> sandpool::Result<()> {
/// let output = pool.submit_record("upper", sandpool::pool::Format::Text, b"some text")?.result()?;
/// assert_eq!(output, b"SOME TEXT");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Format {
    /// Values as serde and bincode 2 encode them. The typed calls use this format.
    Serde = sandpool_abi::task::SERDE,
    /// JSON.
    Json = sandpool_abi::task::JSON,
    /// Text, such as a line without its end. A value that isn't text is written as JSON, in one line.
    Text = sandpool_abi::task::TEXT,
    /// Bytes, unchanged.
    Bytes = sandpool_abi::task::BYTES,
}
