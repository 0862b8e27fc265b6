//! What clients send and get. Shared by the HTTP API and the command line, so
//! that both speak of a job with the same words and refuse it with the same
//! errors.

pub mod dto;
pub mod job_definition;
mod job_export;
