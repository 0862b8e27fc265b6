//! A small web server, in the open and by TLS, whose certificate nobody knows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Of `localhost`, signed by itself, until 2126.
pub(super) const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBmDCCAT6gAwIBAgIUCTrMuIikiFXF2oktQEOTq2mR9vowCgYIKoZIzj0EAwIw\n\
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzAzMDYzMloYDzIxMjYxMDMw\n\
MDMwNjMyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
PQMBBwNCAAS5cylZ+UjXZFZdel9N1Pg29NweWAAj8/O/PHO8AsTnt/nT7SuL4k3s\n\
HsoCLpgZ6MrZSXbwmQSjbxB/PHjWgt5Lo2wwajAdBgNVHQ4EFgQUaN5hmG1u6T25\n\
MLOjs17WZFt/zxMwHwYDVR0jBBgwFoAUaN5hmG1u6T25MLOjs17WZFt/zxMwGgYD\n\
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0E\n\
AwIDSAAwRQIgH/hp/BQIn01mzQFM0jpVqAjZ66dCX9UNvs9o/sr80iQCIQDjQPPb\n\
SrynwXgN0j1xUMmzL8YHMw+D3RGyKkGbnzs6ZA==\n\
-----END CERTIFICATE-----\n";
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvi/WkIpzfo1fpUMD\n\
FHUI7DSCBNPN3pxufFJKW144C5KhRANCAAS5cylZ+UjXZFZdel9N1Pg29NweWAAj\n\
8/O/PHO8AsTnt/nT7SuL4k3sHsoCLpgZ6MrZSXbwmQSjbxB/PHjWgt5L\n\
-----END PRIVATE KEY-----\n";

/// Answers by the path that is asked for, until the test ends.
pub(super) fn serve() -> SocketAddr {
    serve_by(|stream| Box::new(stream))
}

/// The same by TLS.
pub(super) fn serve_tls() -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    serve_by(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        Box::new(rustls::StreamOwned::new(connection, stream))
    })
}

trait Line: Read + Write + Send {}
impl<T: Read + Write + Send> Line for T {}

fn serve_by(wrap: impl Fn(std::net::TcpStream) -> Box<dyn Line> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let line = wrap(stream);
            // Whoever goes away in the middle is no concern of the others.
            std::thread::spawn(move || drop(answer(line)));
        }
    });
    address
}

/// One request: its head, and a body of the length that the head says.
fn answer(mut line: Box<dyn Line>) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        line.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    line.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, said) = match path {
        "/ok" => ("200 OK", "all done".to_owned()),
        "/made" => ("201 Created", "made".to_owned()),
        "/broken" => ("500 Internal Server Error", "oh no".to_owned()),
        "/echo" => ("200 OK", format!("{head}{}", String::from_utf8_lossy(&body))),
        "/moved" => ("302 Found\r\nLocation: /ok", String::new()),
        "/slow" => {
            std::thread::sleep(Duration::from_secs(30));
            ("200 OK", String::new())
        }
        _ => ("404 Not Found", "nothing".to_owned()),
    };
    write!(line, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{said}", said.len())?;
    line.flush()
}
