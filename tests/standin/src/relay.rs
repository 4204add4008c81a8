//! A relay that adds latency to connections without limiting their bandwidth.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::wire::{self, Wire};
use crate::world::Shared;

/// How many pieces may be under way at once: enough for the bandwidth of every test, but limited in
/// case the receiver does not read.
const UNDER_WAY: usize = 16 * 1024;

/// The size of the read buffers. Every connection has one in each direction.
const PIECE: usize = 8 * 1024;

/// Opens a relay to a port of this machine. Returns the relay's address.
pub(crate) fn open(
    shared: &Arc<Shared>,
    target: SocketAddr,
    delay: Duration,
) -> io::Result<SocketAddr> {
    if !target.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a relay connects only to loopback addresses",
        ));
    }
    let listener = wire::bind(0)?;
    let address = listener.local_addr()?;
    wire::serve(
        listener,
        "relay",
        Arc::clone(shared),
        move |wire| async move {
            let fate = wire.fate();
            if relay(wire, target, delay).await.is_err() {
                fate.reset();
            }
        },
    );
    Ok(address)
}

async fn relay(wire: Wire, target: SocketAddr, delay: Duration) -> io::Result<()> {
    let upstream = TcpStream::connect(target).await?;
    upstream.set_nodelay(true)?;
    let (near_reader, near_writer) = tokio::io::split(wire);
    let (far_reader, far_writer) = upstream.into_split();
    tokio::try_join!(
        pump(near_reader, far_writer, delay),
        pump(far_reader, near_writer, delay),
    )?;
    Ok(())
}

/// Forwards the bytes and the end of a stream, each with this delay.
async fn pump(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, io::Result<Bytes>)>(UNDER_WAY);
    let read = async move {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            let result = reader.read_buf(&mut piece).await;
            let last = !matches!(result, Ok(n) if n > 0);
            let item = (Instant::now() + delay, result.map(|_| piece.freeze()));
            if sender.send(item).await.is_err() || last {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            writer.write_all(&piece?).await?;
        }
        writer.shutdown().await
    };
    // When writing fails, reading stops too.
    tokio::try_join!(read, write)?;
    Ok(())
}
