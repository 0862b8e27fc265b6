//! Tests of the machine as a whole: one rule each, and random command lists.

mod rules;
mod support;
