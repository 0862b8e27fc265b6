//! The integration tests, as one binary: linking costs more than running.

mod tidy;
