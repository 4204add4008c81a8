//! Listeners and the connections they accept.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::fault::Then;
use crate::world::{OpenConnection, Shared};

/// Large enough for a test that opens thousands of connections at once (the kernel may allow less).
const BACKLOG: u32 = 16 * 1024;

/// How long an orderly end waits for the other side to end too.
const LINGER: Duration = Duration::from_secs(2);

/// How a connection has to end. Any layer of its protocols may decide that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fate(Arc<AtomicBool>);

impl Fate {
    /// Makes the connection end with an RST when it is dropped.
    pub(crate) fn reset(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An accepted connection.
pub(crate) struct Wire {
    tcp: TcpStream,
    fate: Fate,
    _open: OpenConnection,
}

impl Wire {
    pub(crate) fn fate(&self) -> Fate {
        self.fate.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.fate.0.load(Ordering::Relaxed) {
            // An error means that the connection has already ended.
            let _ = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Listens on the loopback interface; with port 0 on any free port.
pub(crate) fn bind(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

/// Accepts connections for ever and serves each on its own task.
pub(crate) fn serve<F, S>(
    listener: TcpListener,
    name: &'static str,
    shared: Arc<Shared>,
    handler: S,
) where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(Wire) -> F + Send + 'static,
{
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    // With Nagle's algorithm a part of an answer could wait for the rest.
                    let _ = tcp.set_nodelay(true);
                    let wire = Wire {
                        tcp,
                        fate: Fate::default(),
                        _open: shared.connection_accepted(name),
                    };
                    tokio::spawn(handler(wire));
                }
                // Either the process has no free descriptor, or the client disconnected before it
                // was accepted. Both pass.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
}

/// Discards all bytes until the other side ends the connection.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut scratch = [0; 4096];
    while matches!(stream.read(&mut scratch).await, Ok(n) if n > 0) {}
}

/// Like [`drain`], but for a limited time. Closing a socket with unread bytes would send an RST
/// instead of the FIN.
pub(crate) async fn drain_briefly(stream: &mut (impl AsyncRead + Unpin)) {
    let _ = tokio::time::timeout(LINGER, drain(stream)).await;
}

/// Ends a connection as `then` says.
pub(crate) async fn hang_up<S>(mut stream: S, then: Then, fate: &Fate)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match then {
        Then::Fin => {
            if stream.shutdown().await.is_ok() {
                drain_briefly(&mut stream).await;
            }
        }
        Then::Reset => fate.reset(),
        Then::Stall => drain(&mut stream).await,
        // Dropping the stream sends the FIN.
        Then::CloseUnannounced => {}
    }
}
