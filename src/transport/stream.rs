//! The byte stream that counts the bytes written: the basis of "not one byte of the request left".

use std::io;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::process;

/// Both directions of a connection, whatever layers it has.
pub type Io = Box<dyn Stream>;

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    /// Bytes of the request's layer that reached the kernel; only its changes matter.
    fn written(&self) -> u64;
    /// What waits to be read. Only for a connection at rest, because TLS has to read to find out.
    fn peek(&mut self) -> Waiting;
    /// Whether an answer waits to be read on a new connection: it is one to nothing.
    fn has_answered_early(&mut self) -> bool;
    /// Whether `error`, the first that was read, says that the server ended the handshake for want
    /// of a client certificate.
    fn refuses_client(&self, _error: &io::Error) -> bool {
        false
    }
}

/// What waits to be read on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    Nothing,
    Data,
    /// The other side has closed it, or it is broken.
    End,
}

/// A TCP connection that counts the bytes written.
///
/// Without vectored writes, because the standard library's plain write asks the kernel not to raise
/// SIGPIPE, and its vectored write cannot.
struct Socket {
    tcp: TcpStream,
    written: u64,
}

pub fn socket(tcp: TcpStream) -> Io {
    Box::new(Socket { tcp, written: 0 })
}

impl Stream for Socket {
    fn written(&self) -> u64 {
        self.written
    }

    fn peek(&mut self) -> Waiting {
        // Tokio would answer from cached readiness, not from the kernel.
        match process::peek((&self.tcp).into(), &mut [0]) {
            Ok(0) => Waiting::End,
            Ok(_) => Waiting::Data,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Waiting::Nothing,
            Err(_) => Waiting::End,
        }
    }

    fn has_answered_early(&mut self) -> bool {
        let mut start = [0; 5];
        let count = process::peek((&self.tcp).into(), &mut start).unwrap_or_default();
        // The greeting of another protocol is for the exchange to name.
        count > 0 && b"HTTP/".starts_with(&start[..count])
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
