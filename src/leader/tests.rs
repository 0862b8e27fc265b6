//! The services against one state in one process.
