//! The network between the machines: one switch, through which every packet goes.
//!
//! Each machine's only interface is a TUN device whose other end is held here. One
//! thread forwards packets and does to them what [`Links`] says, so that all
//! network faults are in one place. Whether a cut really cuts is never believed:
//! [`Network::reach`] sends datagrams between all machines and counts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::links::{Host, Link, Links, Overlay};
use super::namespaces::Namespace;
use super::{Error, at, sys, tcp, tool};

/// Reserved for tests of networks (RFC 2544), so nothing real has such an address.
const SUBNET: [u8; 3] = [198, 18, 0];
/// The harness and its clients.
pub(crate) const HARNESS: Host = 250;
/// Of an Ethernet.
const MTU: usize = 1500;
/// Probes arrive here.
const PROBE_PORT: u16 = 7099;
/// Packets that wait in the switch; more are lost, as in any switch.
const WAITING: usize = 50_000;
/// What a slow link keeps before it drops.
const BACKLOG: Duration = Duration::from_millis(500);
/// Rounds of probes before a silent pair counts as cut; a lossy one answers earlier.
const ROUNDS: u32 = 12;
/// Between the rounds.
const ROUND: Duration = Duration::from_millis(25);

/// Where a host is.
pub(crate) fn address(host: Host) -> Ipv4Addr {
    Ipv4Addr::new(SUBNET[0], SUBNET[1], SUBNET[2], host)
}

/// Which directed pairs hear each other.
pub(crate) type Reach = BTreeSet<(Host, Host)>;

struct Waiting {
    due: Instant,
    order: u64,
    from: Host,
    to: Host,
    packet: Vec<u8>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

/// Packets by directed pair: passed on, and not.
pub(crate) type Counts = BTreeMap<(Host, Host), (u64, u64)>;

#[derive(Default)]
struct Shared {
    links: Links,
    counts: Counts,
}

/// The switch, its ports, and a prober on each machine.
pub(crate) struct Network {
    shared: Arc<Mutex<Shared>>,
    probes: BTreeMap<Host, UdpSocket>,
}

struct Port {
    host: Host,
    tun: File,
}

/// Makes a namespace's interface, and a socket to probe it by.
fn plug(host: Host, namespace: Option<&Namespace>) -> Result<(Port, UdpSocket), Error> {
    let open = || -> io::Result<File> {
        let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
        sys::become_interface(&tun, "eth0")?;
        let flags = fcntl_getfl(&tun)?;
        fcntl_setfl(&tun, flags | OFlags::NONBLOCK)?;
        Ok(tun)
    };
    let what = "open /dev/net/tun: is the tun driver there, and are we root?";
    let inside = |work: Vec<Vec<String>>| -> Result<(), Error> {
        for words in work {
            let mut all: Vec<&str> = Vec::new();
            if let Some(namespace) = namespace {
                all.extend(["-n", namespace.name()]);
            }
            all.extend(words.iter().map(String::as_str));
            tool("ip", &all)?;
        }
        Ok(())
    };
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let tun = match namespace {
        Some(namespace) => namespace.within(open)?,
        None => open(),
    };
    let tun = tun.map_err(at(what))?;
    inside(vec![
        words("link set lo up".into()),
        words(format!("addr add {}/24 dev eth0", address(host))),
        words(format!("link set eth0 up mtu {MTU}")),
    ])?;
    let bind = || UdpSocket::bind(SocketAddrV4::new(address(host), PROBE_PORT));
    let socket = match namespace {
        Some(namespace) => namespace.within(bind)?,
        None => bind(),
    };
    let socket = socket.map_err(at("bind the prober's socket"))?;
    socket.set_nonblocking(true).map_err(at("prepare the prober's socket"))?;
    Ok((Port { host, tun }, socket))
}

impl Network {
    /// Connects the harness and these machines. The thread ends with the process.
    pub(crate) fn build(machines: &[(Host, &Namespace)], seed: u64) -> Result<Self, Error> {
        let (mut ports, mut probes) = (Vec::new(), BTreeMap::new());
        let all = machines.iter().map(|(host, namespace)| (*host, Some(*namespace)));
        for (host, namespace) in all.chain([(HARNESS, None)]) {
            let (port, probe) = plug(host, namespace)?;
            ports.push(port);
            probes.insert(host, probe);
        }
        let shared = Arc::new(Mutex::new(Shared::default()));
        let switch = Switch {
            ports,
            shared: Arc::clone(&shared),
            rng: ChaCha8Rng::seed_from_u64(seed),
            waiting: BinaryHeap::new(),
            busy: BTreeMap::new(),
            order: 0,
        };
        let thread = std::thread::Builder::new().name("switch".into());
        thread.spawn(move || switch.run()).map_err(at("start the switch"))?;
        Ok(Self { shared, probes })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays a fault over the links.
    pub(crate) fn lay(&self, fault: u64, overlay: Overlay) {
        self.shared().links.lay(fault, overlay);
    }

    /// Takes a fault away.
    pub(crate) fn lift(&self, fault: u64) {
        self.shared().links.lift(fault);
    }

    /// What passed and what did not so far.
    pub(crate) fn counts(&self) -> Counts {
        self.shared().counts.clone()
    }

    fn link(&self, from: Host, to: Host) -> Link {
        self.shared().links.get(from, to)
    }

    /// Which pairs of these hosts hear each other now, found out by datagrams.
    pub(crate) fn reach(&self, hosts: &[Host]) -> Result<Reach, Error> {
        let nonce: u64 = rand::rng().random();
        let pairs = || hosts.iter().flat_map(|a| hosts.iter().map(move |b| (*a, *b)));
        let open: Reach = pairs().filter(|(a, b)| a != b && !self.link(*a, *b).cut).collect();
        let latest = pairs().map(|(a, b)| self.link(a, b)).map(|l| l.delay_us + l.jitter_us).max();
        let mut heard = Reach::new();
        let listen_until = |heard: &mut Reach, end: Instant| -> Result<(), Error> {
            loop {
                self.listen(hosts, nonce, heard)?;
                if Instant::now() >= end {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        for round in 0..ROUNDS {
            for (from, to) in pairs().filter(|(a, b)| a != b) {
                let mut datagram = nonce.to_le_bytes().to_vec();
                datagram.push(from);
                let to = SocketAddrV4::new(address(to), PROBE_PORT);
                // A full buffer or a machine without its interface: it is not heard.
                let _ = self.probe(from)?.send_to(&datagram, to);
            }
            listen_until(&mut heard, Instant::now() + ROUND)?;
            // Three rounds, so that what should be cut had its chances too.
            if round >= 2 && heard.is_superset(&open) {
                break;
            }
        }
        let late = Duration::from_micros(latest.unwrap_or(0).into()) + ROUND;
        listen_until(&mut heard, Instant::now() + late)?;
        Ok(heard)
    }

    /// Probes, and answers what is not as the links say: nothing if all is.
    pub(crate) fn verify(&self, hosts: &[Host]) -> Result<Vec<String>, Error> {
        let heard = self.reach(hosts)?;
        let mut faults = Vec::new();
        for a in hosts {
            for b in hosts.iter().filter(|b| *b != a) {
                let (open, is) = (!self.link(*a, *b).cut, heard.contains(&(*a, *b)));
                if open != is {
                    let said = if is { "still hears" } else { "does not hear" };
                    faults.push(format!("{} {said} {}", address(*b), address(*a)));
                }
            }
        }
        Ok(faults)
    }

    fn probe(&self, host: Host) -> Result<&UdpSocket, Error> {
        self.probes.get(&host).ok_or_else(|| Error::Misuse(format!("no host {host} is plugged in")))
    }

    fn listen(&self, hosts: &[Host], nonce: u64, heard: &mut Reach) -> Result<(), Error> {
        for host in hosts {
            let mut datagram = [0; 64];
            while let Ok(length) = self.probe(*host)?.recv(&mut datagram) {
                if length == 9 && datagram[..8] == nonce.to_le_bytes() {
                    heard.insert((datagram[8], *host));
                }
            }
        }
        Ok(())
    }

    /// How long one datagram takes there and back, by the harness's own clock.
    pub(crate) fn trip(&self, from: Host, to: Host) -> Result<Option<Duration>, Error> {
        let begun = Instant::now();
        for (a, b) in [(from, to), (to, from)] {
            let mut datagram = rand::rng().random::<u64>().to_le_bytes().to_vec();
            datagram.push(a);
            let sent = self.probe(a)?.send_to(&datagram, (address(b), PROBE_PORT));
            sent.map_err(at("send a probe"))?;
            let mut seen = [0; 64];
            while !matches!(self.probe(b)?.recv(&mut seen), Ok(9) if seen[..9] == datagram[..]) {
                if begun.elapsed() > Duration::from_secs(3) {
                    return Ok(None);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(Some(begun.elapsed()))
    }

    /// Sends so many datagrams of `size` bytes (8 or more) one way and counts what comes.
    pub(crate) fn count_arrivals(
        &self,
        from: Host,
        to: Host,
        count: u32,
        size: usize,
    ) -> Result<u32, Error> {
        let nonce: u64 = rand::rng().random();
        let mut datagram = nonce.to_le_bytes().to_vec();
        datagram.resize(size.max(8), 0);
        let mut arrived = 0;
        let mut listen = |pause: Duration| -> Result<(), Error> {
            let end = Instant::now() + pause;
            loop {
                let mut seen = vec![0; MTU];
                while let Ok(length) = self.probe(to)?.recv(&mut seen) {
                    arrived += u32::from(seen[..length] == datagram[..]);
                }
                if Instant::now() >= end {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for n in 0..count {
            let target = (address(to), PROBE_PORT);
            self.probe(from)?.send_to(&datagram, target).map_err(at("send a probe"))?;
            if n % 16 == 15 {
                listen(Duration::from_millis(2))?;
            }
        }
        listen(Duration::from_millis(200))?;
        Ok(arrived)
    }
}

struct Switch {
    ports: Vec<Port>,
    shared: Arc<Mutex<Shared>>,
    rng: ChaCha8Rng,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// When a slow link will have sent what it took.
    busy: BTreeMap<(Host, Host), Instant>,
    order: u64,
}

impl Switch {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut buffer = vec![0; MTU + 64];
        loop {
            let timeout = self.waiting.peek().map(|Reverse(next)| {
                let left = next.due.saturating_duration_since(Instant::now());
                Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let readable: Vec<bool> = {
                let mut polled: Vec<PollFd<'_>> = self
                    .ports
                    .iter()
                    .map(|port| PollFd::from_borrowed_fd(port.tun.as_fd(), PollFlags::IN))
                    .collect();
                // An interruption only makes another round.
                let _ = poll(&mut polled, timeout.as_ref());
                polled.iter().map(|p| p.revents().contains(PollFlags::IN)).collect()
            };
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            for (port, _) in readable.iter().enumerate().filter(|(_, ready)| **ready) {
                for _ in 0..64 {
                    let Ok(length) = (&self.ports[port].tun).read(&mut buffer) else { break };
                    let from = self.ports[port].host;
                    self.take(&mut shared, from, &buffer[..length]);
                }
            }
            let now = Instant::now();
            while self.waiting.peek().is_some_and(|Reverse(next)| next.due <= now) {
                let Some(Reverse(next)) = self.waiting.pop() else { break };
                // What was under way when the link was cut is lost with it.
                let open = !shared.links.get(next.from, next.to).cut;
                let sent = open && self.send(next.to, &next.packet);
                count(&mut shared, next.from, next.to, sent);
            }
        }
    }

    fn take(&mut self, shared: &mut Shared, from: Host, packet: &[u8]) {
        // Only IPv4 inside the subnet; neighbours' chatter of IPv6 goes nowhere.
        let is_ours = packet.len() >= 20 && packet[0] >> 4 == 4 && packet[16..19] == SUBNET;
        if !is_ours || packet[12..16] != address(from).octets() {
            return;
        }
        let to = packet[19];
        let link = shared.links.get(from, to);
        let too_long = link.longest > 0 && packet.len() > link.longest as usize;
        if link.cut || too_long || self.draws(link.loss) {
            return count(shared, from, to, false);
        }
        if link.reset
            && let Some(resets) = tcp::resets(packet)
        {
            self.send(from, &resets.back);
            self.send(to, &resets.on);
            return count(shared, from, to, false);
        }
        let copies = 1 + usize::from(self.draws(link.twice));
        for _ in 0..copies {
            if link.delay_us == 0 && link.jitter_us == 0 && link.rate == 0 {
                let sent = self.send(to, packet);
                count(shared, from, to, sent);
                continue;
            }
            let now = Instant::now();
            let mut leaves = now;
            if let Some(rate) = NonZeroU64::new(link.rate) {
                let busy = self.busy.entry((from, to)).or_insert(now);
                let begins = (*busy).max(now);
                if begins - now > BACKLOG {
                    count(shared, from, to, false);
                    continue;
                }
                let bits = packet.len() as u64 * 8;
                leaves = begins + Duration::from_nanos(bits * 1_000_000_000 / rate);
                *busy = leaves;
            }
            let jitter = self.rng.random_range(0..=link.jitter_us);
            let due = leaves + Duration::from_micros((link.delay_us + jitter).into());
            if self.waiting.len() >= WAITING {
                count(shared, from, to, false);
                continue;
            }
            self.order += 1;
            let packet = packet.to_vec();
            self.waiting.push(Reverse(Waiting { due, order: self.order, from, to, packet }));
        }
    }

    fn draws(&mut self, of_thousand: u16) -> bool {
        of_thousand > 0 && self.rng.random_range(0..1000) < of_thousand
    }

    fn send(&self, to: Host, packet: &[u8]) -> bool {
        let port = self.ports.iter().find(|port| port.host == to);
        port.is_some_and(|port| (&port.tun).write(packet).is_ok())
    }
}

fn count(shared: &mut Shared, from: Host, to: Host, sent: bool) {
    let (passed, lost) = shared.counts.entry((from, to)).or_default();
    *if sent { passed } else { lost } += 1;
}
