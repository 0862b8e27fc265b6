//! The chunk store: output of attempts, and contents of files, on one node's disk.
//!
//! A log is the output of one attempt, in the offsets that it had when the job wrote
//! it. What is known of each byte only ever grows: nothing, then the byte, then *left
//! out* (a gap, made by the worker), then *gone* with its run. So records may be
//! applied in any order and any number of times, on any node, and the outcome is the
//! same: putting something again is harmless, a copy in a second file too, and what is
//! copied from another node needs no order. Other bytes where some are known already
//! are an error, because the offset of a byte names it for ever.
//!
//! On disk are segments of checked records, appended to by one thread, with one sync
//! for all that came within [`Limits::sync`]. What was not synced is not told of. There
//! is no other file: the index is read from the segments when the store is opened. A
//! torn end is cut off; a damaged record is skipped, and its bytes are not held any more,
//! so that whoever compares nodes copies them again. Segments that hold mostly what is
//! gone are rewritten.
//!
//! Beside logs it holds contents: small, whole, and found by their hash, so that the same
//! holds of them.
//!
//! It knows neither network nor state: who may put, what is to be kept and whom a log
//! is copied to is decided by those who use it.
//!
//! Reading order: [`ranges`], [`piece`], `frame` (records in a segment), `index` (what
//! is where), `writer` (the thread), [`store`] (what others call); then
//! [`content`] and `contents`, the same for contents.

pub mod content;
mod contents;
mod frame;
mod index;
pub mod piece;
pub mod ranges;
pub mod store;
mod writer;

#[cfg(test)]
mod content_tests;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

pub use piece::{BadPiece, Content, Mark, Piece, Stream};
pub use ranges::Ranges;
pub use store::{Error, Limits, Stats, Store};
