//! When: instants of triggers, computed by the leader. The machine must not import it.
