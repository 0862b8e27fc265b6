//! A simulated network: connections as TCP gives them, with all that goes wrong.
//!
//! Bytes arrive in order or not at all, late rather than lost: what was sent into
//! a cut or a loss is sent again by the sender's kernel, so it arrives after the
//! heal, perhaps seconds later, at a receiver that has moved on. A killed process
//! resets its connections; a machine without power says nothing, and resets when it
//! is back; a frozen process still has a kernel that accepts and stores. Each
//! direction between two machines is cut, delayed and lossy for itself.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use futures_util::stream::{StreamExt, poll_fn};
use horai_raft::host::{Connection, Dial, Incoming};
use rand_seeded::rngs::StdRng;
use rand_seeded::{RngExt, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::trace::Trace;

/// Bytes under way in one direction before a writer waits.
const WINDOW: usize = 256 << 10;
/// The first wait of a kernel before it sends again.
const RESEND: u64 = 200;
/// The longest such wait: real kernels go further, and tests would only be longer.
const LONGEST_RESEND: u64 = 3_000;

/// A machine's number.
pub(crate) type MachineId = usize;

/// How one direction between two machines is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Shortest and longest delay, in milliseconds.
    pub(crate) delay: (u64, u64),
    /// Packets that are sent again, in thousandths.
    pub(crate) loss: u32,
}

impl Default for Weather {
    fn default() -> Self {
        Self { delay: (1, 3), loss: 0 }
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Syn { port: u16 },
    SynAck,
    Data(Bytes),
    Fin,
    Reset,
}

#[derive(Debug, Clone)]
struct Packet {
    conn: u64,
    /// The end that it goes to.
    to: usize,
    kind: Kind,
    tries: u32,
}

#[derive(Default)]
struct End {
    machine: MachineId,
    /// The program has it open.
    open: bool,
    is_connected: bool,
    inbox: VecDeque<Bytes>,
    /// The other side will send no more.
    ended: bool,
    reset: bool,
    fin_sent: bool,
    /// Sent by this end and not read by the other.
    under_way: usize,
    /// Nothing sent from this end arrives before this.
    last_at: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Conn {
    ends: [End; 2],
    /// Somebody on the way has forgotten it: nothing of it arrives, and nobody is told.
    is_lost: bool,
}

#[derive(Default)]
struct Listener {
    queue: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Link {
    weather: Weather,
    cut_since: Option<u64>,
    held: VecDeque<Packet>,
}

struct Inner {
    now: u64,
    rng: StdRng,
    trace: Trace,
    names: BTreeMap<String, MachineId>,
    powered: Vec<bool>,
    links: BTreeMap<(MachineId, MachineId), Link>,
    listeners: BTreeMap<(MachineId, u16), Listener>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    flight: BTreeMap<(u64, u64), Packet>,
    next_packet: u64,
    delivered: u64,
    wake: Vec<Waker>,
}

/// The network; clones are the same.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<Inner>>);

impl Net {
    /// Without machines.
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            trace,
            names: BTreeMap::new(),
            powered: Vec::new(),
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            flight: BTreeMap::new(),
            next_packet: 0,
            delivered: 0,
            wake: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works under the lock; whoever is to be woken is, after it is given back.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        let (done, wake) = {
            let mut inner = self.lock();
            let done = work(&mut inner);
            (done, std::mem::take(&mut inner.wake))
        };
        wake.into_iter().for_each(Waker::wake);
        done
    }

    /// Adds a machine, which is off.
    pub(crate) fn add(&self, name: &str) -> MachineId {
        self.with(|net| {
            let id = net.powered.len();
            net.names.insert(name.to_owned(), id);
            net.powered.push(false);
            id
        })
    }

    /// Delivers what has come by `now`.
    pub(crate) fn deliver(&self, now: u64) {
        self.with(|net| {
            net.now = now;
            while let Some((&key, _)) = net.flight.first_key_value().filter(|(key, _)| key.0 <= now)
            {
                if let Some(packet) = net.flight.remove(&key) {
                    net.arrive(packet);
                }
            }
        });
    }

    /// How many packets have arrived.
    pub(crate) fn delivered(&self) -> u64 {
        self.lock().delivered
    }

    /// Sets how one direction is.
    pub(crate) fn set_weather(&self, from: MachineId, to: MachineId, weather: Weather) {
        self.with(|net| net.links.entry((from, to)).or_default().weather = weather);
    }

    /// Lets nothing through from one machine to another; the other direction stays.
    pub(crate) fn cut(&self, from: MachineId, to: MachineId) {
        self.with(|net| {
            let now = net.now;
            net.links.entry((from, to)).or_default().cut_since.get_or_insert(now);
        });
    }

    /// Undoes a cut; what was sent meanwhile is on its way again.
    pub(crate) fn heal(&self, from: MachineId, to: MachineId) {
        self.with(|net| net.heal(from, to));
    }

    /// Nothing arrives any more on the connections that stand between two machines, as
    /// if a firewall had forgotten them; new ones are as ever.
    pub(crate) fn lose(&self, one: MachineId, other: MachineId) {
        self.with(|net| {
            for conn in net.conns.values_mut() {
                let machines = [conn.ends[0].machine, conn.ends[1].machine];
                conn.is_lost |= machines == [one, other] || machines == [other, one];
            }
        });
    }

    /// The machine runs.
    pub(crate) fn power_on(&self, machine: MachineId) {
        self.with(|net| net.powered[machine] = true);
    }

    /// The machine stops at once, and tells nobody.
    pub(crate) fn power_off(&self, machine: MachineId) {
        self.with(|net| {
            net.powered[machine] = false;
            net.close_all(machine, false);
            for (_, link) in net.links.range_mut((machine, 0)..(machine + 1, 0)) {
                link.held.clear();
            }
        });
    }

    /// The machine's process is gone, its kernel closes what it had open.
    pub(crate) fn kill(&self, machine: MachineId) {
        self.with(|net| net.close_all(machine, true));
    }

    /// How a machine connects.
    pub(crate) fn dial(&self, from: MachineId) -> Dial {
        let net = self.clone();
        Arc::new(move |address: String| {
            let net = net.clone();
            Box::pin(async move { net.connect(from, &address).await })
        })
    }

    /// Listens on a port of a machine.
    pub(crate) fn listen(&self, machine: MachineId, port: u16) -> Incoming {
        self.with(|net| net.listeners.insert((machine, port), Listener::default()));
        let (net, bound) = (self.clone(), Bound { net: self.clone(), at: (machine, port) });
        poll_fn(move |cx| {
            // All of it is held, not the one field: it gives the port back.
            let bound = &bound;
            let at = &bound.at;
            net.with(|inner| {
                let Some(listener) = inner.listeners.get_mut(at) else { return Poll::Ready(None) };
                match listener.queue.pop_front() {
                    Some(conn) => {
                        let stream = Socket { net: net.clone(), conn, end: 1 };
                        Poll::Ready(Some(Ok(Connection::new(stream))))
                    }
                    None => {
                        listener.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .boxed()
    }

    async fn connect(&self, from: MachineId, address: &str) -> io::Result<Connection> {
        let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("no host {address}"));
        let (name, port) = address.split_once(':').ok_or_else(unknown)?;
        let port: u16 = port.parse().map_err(|_| unknown())?;
        let conn = self.with(|net| {
            let to = *net.names.get(name)?;
            net.next_conn += 1;
            let conn = net.next_conn;
            let end = |machine, open| End { machine, open, ..End::default() };
            net.conns
                .insert(conn, Conn { ends: [end(from, true), end(to, false)], is_lost: false });
            net.send(Packet { conn, to: 1, kind: Kind::Syn { port }, tries: 0 });
            Some(conn)
        });
        // Held from now on, so that giving up closes it.
        let socket = Socket { net: self.clone(), conn: conn.ok_or_else(unknown)?, end: 0 };
        std::future::poll_fn(|cx| {
            self.with(|net| {
                let Some(end) = net.end(socket.conn, 0) else {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
                };
                if end.reset {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused)));
                }
                if end.is_connected {
                    return Poll::Ready(Ok(()));
                }
                end.reader = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await?;
        Ok(Connection::new(socket))
    }
}

impl Inner {
    fn end(&mut self, conn: u64, end: usize) -> Option<&mut End> {
        self.conns.get_mut(&conn).map(|conn| &mut conn.ends[end])
    }

    fn send(&mut self, packet: Packet) {
        let Some(conn) = self.conns.get(&packet.conn).filter(|conn| !conn.is_lost) else { return };
        let path = (conn.ends[1 - packet.to].machine, conn.ends[packet.to].machine);
        let link = self.links.entry(path).or_default();
        if link.cut_since.is_some() {
            link.held.push_back(packet);
        } else {
            self.schedule(packet, 0);
        }
    }

    fn schedule(&mut self, packet: Packet, extra: u64) {
        let Some(conn) = self.conns.get_mut(&packet.conn) else { return };
        let path = (conn.ends[1 - packet.to].machine, conn.ends[packet.to].machine);
        let weather = self.links.entry(path).or_default().weather;
        let mut delay = extra + self.rng.random_range(weather.delay.0..=weather.delay.1);
        let mut resend = RESEND;
        while weather.loss > 0 && self.rng.random_range(0..1_000) < weather.loss {
            delay += resend;
            resend = (resend * 2).min(LONGEST_RESEND);
        }
        let from = &mut conn.ends[1 - packet.to];
        let at = (self.now + delay).max(from.last_at);
        from.last_at = at;
        self.next_packet += 1;
        self.flight.insert((at, self.next_packet), packet);
    }

    fn heal(&mut self, from: MachineId, to: MachineId) {
        let Some(link) = self.links.get_mut(&(from, to)) else { return };
        let Some(since) = link.cut_since.take() else { return };
        let held = std::mem::take(&mut link.held);
        // Each connection's kernel waits for as long again as it has waited already.
        let longest = (self.now - since).clamp(1, LONGEST_RESEND);
        let mut extra = BTreeMap::new();
        for packet in held {
            let drawn = self.rng.random_range(0..=longest);
            let extra = *extra.entry((packet.conn, packet.to)).or_insert(drawn);
            self.schedule(packet, extra);
        }
    }

    fn close_all(&mut self, machine: MachineId, tell: bool) {
        self.listeners.retain(|(at, _), _| *at != machine);
        let mine: Vec<(u64, usize)> = self
            .conns
            .iter()
            .flat_map(|(id, conn)| {
                let ends = conn.ends.iter().enumerate();
                ends.filter(|(_, end)| end.machine == machine && end.open).map(|(n, _)| (*id, n))
            })
            .collect();
        for (conn, end) in mine {
            let fin_sent = self.end(conn, end).is_some_and(|end| {
                end.open = false;
                end.inbox.clear();
                (end.reader, end.writer) = (None, None);
                end.fin_sent
            });
            if tell && !fin_sent {
                let kind = if self.rng.random_bool(0.5) { Kind::Fin } else { Kind::Reset };
                self.send(Packet { conn, to: 1 - end, kind, tries: 0 });
            }
        }
    }

    fn arrive(&mut self, mut packet: Packet) {
        let (id, to) = (packet.conn, packet.to);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.is_lost) else { return };
        let machine = conn.ends[to].machine;
        if !self.powered[machine] {
            // Sent again until the machine is back and knows nothing of it.
            packet.tries += 1;
            if packet.tries < 40 && conn.ends[1 - to].open {
                self.next_packet += 1;
                self.flight.insert((self.now + 500, self.next_packet), packet);
            }
            return;
        }
        self.delivered += 1;
        let (kind, len, sum) = match &packet.kind {
            Kind::Syn { port } => (0, usize::from(*port), 0),
            Kind::SynAck => (1, 0, 0),
            Kind::Data(data) => (2, data.len(), crc32c::crc32c(data)),
            Kind::Fin => (3, 0, 0),
            Kind::Reset => (4, 0, 0),
        };
        self.trace.note(format_args!("{} net {id}/{to} {kind} {len} {sum:08x}", self.now));
        let end = &mut conn.ends[to];
        match packet.kind {
            Kind::Syn { port } => match self.listeners.get_mut(&(machine, port)) {
                Some(listener) => {
                    (end.open, end.is_connected) = (true, true);
                    listener.queue.push_back(id);
                    self.wake.extend(listener.waker.take());
                    self.send(Packet { conn: id, to: 0, kind: Kind::SynAck, tries: 0 });
                }
                None => self.send(Packet { conn: id, to: 0, kind: Kind::Reset, tries: 0 }),
            },
            Kind::Reset => {
                end.reset = true;
                end.inbox.clear();
                self.wake.extend(end.reader.take().into_iter().chain(end.writer.take()));
            }
            // The program that it was for is gone.
            _ if !end.open => {
                if !matches!(packet.kind, Kind::Fin) {
                    self.send(Packet { conn: id, to: 1 - to, kind: Kind::Reset, tries: 0 });
                }
            }
            Kind::SynAck => {
                end.is_connected = true;
                self.wake.extend(end.reader.take());
            }
            Kind::Data(data) => {
                end.inbox.push_back(data);
                self.wake.extend(end.reader.take());
            }
            Kind::Fin => {
                end.ended = true;
                self.wake.extend(end.reader.take());
            }
        }
        self.forget(id);
    }

    /// A connection that nobody has open, with nothing under way, is gone.
    fn forget(&mut self, id: u64) {
        let closed = |conn: &Conn| conn.ends.iter().all(|end| !end.open);
        if self.conns.get(&id).is_some_and(closed)
            && !self.flight.values().any(|packet| packet.conn == id)
            && !self.links.values().any(|link| link.held.iter().any(|packet| packet.conn == id))
        {
            self.conns.remove(&id);
        }
    }
}

/// Gives the port back.
struct Bound {
    net: Net,
    at: (MachineId, u16),
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.net.with(|net| net.listeners.remove(&self.at));
    }
}

/// One end, as a program holds it.
struct Socket {
    net: Net,
    conn: u64,
    end: usize,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.net.with(|net| {
            let Some(conn) = net.conns.get_mut(&self.conn) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let [one, two] = &mut conn.ends;
            let (mine, other) = if self.end == 0 { (one, two) } else { (two, one) };
            if mine.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let Some(first) = mine.inbox.front_mut() else {
                if mine.ended {
                    return Poll::Ready(Ok(()));
                }
                mine.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let len = first.len().min(buf.remaining());
            buf.put_slice(&first[..len]);
            first.advance(len);
            if first.is_empty() {
                mine.inbox.pop_front();
            }
            other.under_way = other.under_way.saturating_sub(len);
            net.wake.extend(other.writer.take());
            Poll::Ready(Ok(()))
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.net.with(|net| {
            let Some(end) = net.end(self.conn, self.end) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            if end.reset || end.fin_sent {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = buf.len().min(WINDOW.saturating_sub(end.under_way));
            if len == 0 && !buf.is_empty() {
                end.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            end.under_way += len;
            let kind = Kind::Data(Bytes::copy_from_slice(&buf[..len]));
            net.send(Packet { conn: self.conn, to: 1 - self.end, kind, tries: 0 });
            Poll::Ready(Ok(len))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.with(|net| {
            let fin = net
                .end(self.conn, self.end)
                .is_some_and(|end| !std::mem::replace(&mut end.fin_sent, true));
            if fin {
                let to = 1 - self.end;
                net.send(Packet { conn: self.conn, to, kind: Kind::Fin, tries: 0 });
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.net.with(|net| {
            let Some(end) = net.end(self.conn, self.end) else { return };
            // Closed by the kernel already if the process was killed.
            if std::mem::replace(&mut end.open, false) && !end.fin_sent && !end.reset {
                end.fin_sent = true;
                let to = 1 - self.end;
                net.send(Packet { conn: self.conn, to, kind: Kind::Fin, tries: 0 });
            }
            net.forget(self.conn);
        });
    }
}
