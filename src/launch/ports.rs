//! Which ports the processes of a local cluster use, and whether they are free.
//!
//! Looked at before anything is started, so that a second demo on one machine
//! says which port is taken instead of starting two nodes of three.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::{Error, Role};

/// Between the base ports of two nodes.
const STEP: u16 = 10;

/// Where one node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    /// HTTP API.
    pub(super) http: SocketAddr,
    /// Workers.
    pub(super) grpc: SocketAddr,
    /// Other nodes.
    pub(super) raft: SocketAddr,
}

/// The ports of `nodes` nodes: HTTP at `base` + 10·i, then gRPC and Raft.
pub(super) fn assign(base: u16, nodes: u32) -> Result<Vec<Ports>, Error> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ports = |i: u32| {
        let http = u16::try_from(i).ok()?.checked_mul(STEP)?.checked_add(base)?;
        let raft = http.checked_add(2)?;
        Some(Ports { http: local(http), grpc: local(raft - 1), raft: local(raft) })
    };
    if base == 0 {
        return Err(Error::BasePort { base, nodes });
    }
    (0..nodes).map(|i| ports(i).ok_or(Error::BasePort { base, nodes })).collect()
}

/// Fails with the first port that is taken.
pub(super) fn check(all: &[Ports]) -> Result<(), Error> {
    let range = match (all.first(), all.last()) {
        (Some(first), Some(last)) => (first.http.port(), last.raft.port()),
        _ => return Ok(()),
    };
    for (n, ports) in (1..).zip(all) {
        for address in [ports.http, ports.grpc, ports.raft] {
            bind(address).map_err(|source| Error::Port {
                port: address.port(),
                role: Role::Node(n),
                range,
                source,
            })?;
        }
    }
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<()> {
    // Closed at once: the node binds it again in a moment.
    TcpListener::bind(address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_ten_ports_apart() {
        let ports = assign(7600, 3).unwrap();
        let numbers: Vec<u16> =
            ports.iter().flat_map(|p| [p.http, p.grpc, p.raft]).map(|a| a.port()).collect();
        assert_eq!(numbers, [7600, 7601, 7602, 7610, 7611, 7612, 7620, 7621, 7622]);
    }

    #[test]
    fn ports_beyond_the_last_are_refused() {
        assert!(assign(65_513, 3).is_ok());
        for (base, nodes) in [(65_514, 3), (65_535, 1), (0, 1), (7600, 100_000)] {
            assert!(matches!(assign(base, nodes), Err(Error::BasePort { .. })), "{base} {nodes}");
        }
    }

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let address = taken.local_addr().unwrap();
        let ports = Ports { http: address, grpc: address, raft: address };
        let error = check(&[ports]).unwrap_err();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        assert!(error.hint().contains("--base-port"), "{}", error.hint());
        drop(taken);
    }
}
