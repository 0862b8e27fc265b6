//! Resets of TCP connections, as a box on the way sends them: in the name of either
//! end, to both.
//!
//! Pure: the switch asks, nothing here sends. A reset is taken only if it carries the
//! number that the receiver expects next (RFC 5961), which the packet that is answered
//! tells.

use std::net::Ipv4Addr;

const HEADER: u8 = 20;
const TCP: u8 = 6;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What resets a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resets {
    /// For whom the packet came from.
    pub(super) back: Vec<u8>,
    /// For whom it was for.
    pub(super) on: Vec<u8>,
}

/// The resets of the connection that a packet belongs to; none if it belongs to none,
/// or is a reset.
pub(super) fn resets(packet: &[u8]) -> Option<Resets> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let is_first_part = number(packet, 6, 2)? & 0x1fff == 0;
    if packet[0] >> 4 != 4 || header < HEADER.into() || *packet.get(9)? != TCP || !is_first_part {
        return None;
    }
    let (length, segment) = (number(packet, 2, 2)?, packet.get(header..)?);
    let flags = *segment.get(13)?;
    if flags & RST != 0 {
        return None;
    }
    let data = u32::from(segment[12] >> 4) * 4 + u32::try_from(header).ok()?;
    let (sequence, expects) = (number(segment, 4, 4)?, number(segment, 8, 4)?);
    let from = (address(packet, 12)?, number(segment, 0, 2)?);
    let to = (address(packet, 16)?, number(segment, 2, 2)?);
    let back = if flags & ACK != 0 {
        reset(to, from, expects, None)
    } else {
        let marks = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        let next = sequence.wrapping_add(length.checked_sub(data)?).wrapping_add(marks);
        reset(to, from, 0, Some(next))
    };
    Some(Resets { back, on: reset(from, to, sequence, None) })
}

type End = (Ipv4Addr, u32);

fn reset(from: End, to: End, sequence: u32, acknowledges: Option<u32>) -> Vec<u8> {
    let flags = RST | if acknowledges.is_some() { ACK } else { 0 };
    let mut segment = Vec::new();
    for port in [from.1, to.1] {
        segment.extend(&port.to_be_bytes()[2..]);
    }
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledges.unwrap_or(0).to_be_bytes());
    segment.extend([(HEADER / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
    let addresses = [from.0.octets(), to.0.octets()].concat();
    let pseudo = [addresses.as_slice(), &[0, TCP, 0, HEADER], &segment].concat();
    segment[16..18].copy_from_slice(&checksum(&pseudo));
    let mut packet = vec![0x45, 0, 0, HEADER * 2, 0, 0, 0x40, 0, 64, TCP, 0, 0];
    packet.extend(addresses);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(segment);
    packet
}

/// Of an even number of bytes (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = (!sum).to_be_bytes();
    [high, low]
}

fn number(bytes: &[u8], from: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(from..from + length)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn address(packet: &[u8], from: usize) -> Option<Ipv4Addr> {
    number(packet, from, 4).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 198.18.0.1:4000 to 198.18.0.2:80, with so many bytes of data.
    fn packet(flags: u8, sequence: u32, expects: u32, data: usize) -> Vec<u8> {
        let one = (Ipv4Addr::new(198, 18, 0, 1), 4000);
        let other = (Ipv4Addr::new(198, 18, 0, 2), 80);
        let mut packet = reset(one, other, sequence, Some(expects));
        packet[33] = flags;
        packet.resize(40 + data, 7);
        packet[3] = u8::try_from(packet.len()).unwrap();
        packet
    }

    fn told(packet: &[u8]) -> (u8, u32, u32, u32, u32) {
        // What a receiver checks: both sums are zero over all that they cover.
        assert_eq!(checksum(&packet[..20]), [0, 0]);
        let pseudo = [&packet[12..20], &[0, TCP, 0, HEADER], &packet[20..]].concat();
        assert_eq!(checksum(&pseudo), [0, 0]);
        let number = |from, length| number(packet, from, length).unwrap();
        (packet[33], number(20, 2), number(22, 2), number(24, 4), number(28, 4))
    }

    #[test]
    fn both_ends_get_the_number_that_they_expect() {
        let data = resets(&packet(ACK, 1_000, 7_000, 100)).unwrap();
        assert_eq!(told(&data.back), (RST, 80, 4000, 7_000, 0));
        assert_eq!(told(&data.on), (RST, 4000, 80, 1_000, 0));
        assert_eq!(&data.back[12..20], [198, 18, 0, 2, 198, 18, 0, 1]);
        assert_eq!(&data.on[12..20], [198, 18, 0, 1, 198, 18, 0, 2]);
    }

    #[test]
    fn a_new_connection_is_refused() {
        let new = resets(&packet(SYN, u32::MAX, 0, 0)).unwrap();
        assert_eq!(told(&new.back), (RST | ACK, 80, 4000, 0, 0));
    }

    #[test]
    fn what_is_no_connection_is_left_alone() {
        assert_eq!(resets(&packet(RST, 1, 2, 0)), None);
        let good = packet(ACK, 1, 2, 0);
        for (at, value) in [(0, 0x65), (0, 0x42), (9, 17), (7, 1)] {
            let mut other = good.clone();
            other[at] = value;
            assert_eq!(resets(&other), None, "byte {at}");
        }
        for length in 0..34 {
            assert_eq!(resets(&good[..length]), None, "{length} bytes");
        }
    }
}
