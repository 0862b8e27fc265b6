//! One request on one connection, within its times.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Response, Uri};
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Failure, NO_ANSWER, NO_REQUEST, Request, UNEXPECTED, tls};

/// Bytes of an answer that are read; what is behind them is neither shown nor matched.
const MOST: usize = 4 << 20;

/// Asks, writes what comes back, and says whether it is as expected.
pub(super) async fn ask(request: &Request, out: &mut impl Write) -> Result<(), Failure> {
    let began = Instant::now();
    let whole = Duration::from_millis(request.timeout_ms);
    let asked = Asked::of(request)?;
    let line = format!("{} {}", asked.method, request.url);
    let answered = tokio::time::timeout(whole, answer(request, asked, &line, began, out)).await;
    answered.unwrap_or_else(|_| {
        let why = format!("{line}: no whole answer in {} ms (timeout)", whole.as_millis());
        Err(Failure::new(NO_ANSWER, why))
    })
}

/// A request that can be made.
struct Asked {
    method: Method,
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    pattern: Option<Regex>,
}

impl Asked {
    fn of(request: &Request) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(NO_REQUEST, why);
        let url = &request.url;
        let uri: Uri = url.parse().map_err(|e| wrong(format!("{url:?} is not a URL: {e}")))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong(format!("{url:?} begins with neither http:// nor https://"))),
        };
        let method = Method::from_bytes(request.method.as_bytes());
        let method = method.map_err(|_| wrong(format!("{:?} is no method", request.method)))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let header = |(name, value): (&String, &String)| {
            let bad = || wrong(format!("header {name} has a value that no header can have"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            Ok((name, HeaderValue::from_str(value).map_err(|_| bad())?))
        };
        let headers = request.headers.iter().map(header).collect::<Result<_, _>>()?;
        let pattern = request.body_matches.as_deref().map(Regex::new).transpose();
        let pattern = pattern.map_err(|_| wrong("expect.body is no regular expression".into()))?;
        Ok(Self { method, uri, host, port, is_secure, headers, pattern })
    }

    fn request(&self, body: Option<&String>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let body =
            Full::new(body.map(|text| Bytes::copy_from_slice(text.as_bytes())).unwrap_or_default());
        let mut request = hyper::Request::builder().method(&self.method).uri(path);
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        if let Some(headers) = request.headers_mut() {
            if let Ok(host) = HeaderValue::from_str(authority) {
                headers.insert(HOST, host);
            }
            let own = HeaderValue::from_static(concat!("horai/", env!("CARGO_PKG_VERSION")));
            headers.insert(USER_AGENT, own);
            headers.extend(self.headers.iter().cloned());
        }
        request.body(body).map_err(|error| Failure::new(NO_REQUEST, error.to_string()))
    }
}

async fn answer(
    request: &Request,
    asked: Asked,
    line: &str,
    began: Instant,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let failed = |why: String| Failure::new(NO_ANSWER, format!("{line}: {why}"));
    let within = Duration::from_millis(request.connect_timeout_ms);
    let connected = tokio::time::timeout(within, connect(request, &asked)).await;
    let mut sender = match connected {
        Ok(connected) => connected.map_err(|why| failed(format!("no connection: {why}")))?,
        Err(_) => {
            let ms = within.as_millis();
            return Err(failed(format!("no connection in {ms} ms (connect_timeout)")));
        }
    };
    let sent = sender.send_request(asked.request(request.body.as_ref())?).await;
    let answer = sent.map_err(|error| failed(told(&error)))?;
    let status = answer.status();
    let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
    let to = to.filter(|_| status.is_redirection()).map(|to| format!(" (to {to})"));
    let (ms, to) = (began.elapsed().as_millis(), to.unwrap_or_default());
    shown(writeln!(out, "{line} -> {} in {ms} ms{to}", status.as_u16()))?;
    let body = read(answer, out).await.map_err(|error| failed(told(&error)))?;
    let expect = request.expect();
    if !expect.takes(status.as_u16()) {
        let why = format!("{} is not a status that the job expects", status.as_u16());
        return Err(Failure::new(UNEXPECTED, why));
    }
    if asked.pattern.is_some_and(|pattern| !pattern.is_match(&body)) {
        let why = "the body does not match what the job expects (expect.body)";
        return Err(Failure::new(UNEXPECTED, why));
    }
    Ok(())
}

/// Shows the body as it comes, up to the most; the rest is not waited for.
async fn read(answer: Response<Incoming>, out: &mut impl Write) -> Result<Vec<u8>, hyper::Error> {
    let mut body = answer.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = MOST - read.len();
        let part = data.get(..room).unwrap_or(&data);
        // Who cannot show it can judge it still.
        let _ = out.write_all(part).and_then(|()| out.flush());
        read.extend_from_slice(part);
        if data.len() > room {
            let _ = write!(out, "\n(cut here: {MOST} bytes of the answer are shown and matched)");
            break;
        }
    }
    if !read.is_empty() && !read.ends_with(b"\n") {
        let _ = writeln!(out);
    }
    let _ = out.flush();
    Ok(read)
}

fn shown(written: std::io::Result<()>) -> Result<(), Failure> {
    written.map_err(|error| Failure::new(UNEXPECTED, format!("its output is gone: {error}")))
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

type Sender = http1::SendRequest<Full<Bytes>>;

async fn connect(request: &Request, asked: &Asked) -> Result<Sender, String> {
    let address = (asked.host.as_str(), asked.port);
    let stream = TcpStream::connect(address).await.map_err(|error| told(&error))?;
    if !asked.is_secure {
        return shake_hands(stream).await;
    }
    let stream = tls::connect(stream, &asked.host, request.ca_file.as_deref(), request.insecure);
    shake_hands(stream.await?).await
}

async fn shake_hands(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, String> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    // Its errors come back with the request; it ends with this process.
    tokio::spawn(connection);
    Ok(sender)
}
