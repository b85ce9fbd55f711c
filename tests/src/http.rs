//! A web server of one page, for machines on QEMU's user network.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// The host, as machines on QEMU's user network see it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Serves a page to whoever asks, as long as the program runs; returns the port.
///
/// # Errors
/// If there is no free port.
pub fn serve(page: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let page = Arc::new(page);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let page = page.clone();
            // A machine that goes away is no fault of the server.
            thread::spawn(move || answer(client, &page).ok());
        }
    });
    Ok(port)
}

/// Reads one request to its end, an empty line, and sends the page.
fn answer(mut client: TcpStream, page: &[u8]) -> Result<()> {
    for line in BufReader::new(client.try_clone()?).lines() {
        if line?.is_empty() {
            break;
        }
    }
    let length = page.len();
    write!(
        client,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n"
    )?;
    client.write_all(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_page_is_served_whole_and_often() {
        let port = serve(vec![7; 100_000]).unwrap();
        for _ in 0..2 {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\nContent-Length: 100000\r\n\r\n"));
            assert!(answer.ends_with(&[7; 100_000]));
        }
    }
}
