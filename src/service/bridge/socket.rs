//! Lines of a TCP connection, as netcat gives them.

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::Bridge;
use super::args::SocketArgs;
use super::backoff::{Backoff, Trouble};
use super::lines::Lines;
use super::tweet::of_line;
use crate::error::{Error, Result};
use crate::time::{Clock, SystemClock};

/// Takes lines until it is stopped: of one connection after the other. A socket cannot say again what it said.
pub(super) async fn run(args: &SocketArgs, bridge: &Bridge) -> Result<()> {
    if args.listen {
        let address = args.own().map_err(|e| {
            Error::config(format!("`{}` is no address to listen on", args.address)).with_source(e)
        })?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| Error::unavailable(format!("cannot listen on {address}")).with_source(e))?;
        let address = listener.local_addr().map_err(|e| Error::internal("no address").with_source(e))?;
        tracing::info!(%address, "listening for lines");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tracing::info!(%peer, "connected");
                    read(stream, bridge).await?;
                }
                Err(error) => tracing::warn!(%error, "a connection was not accepted"),
            }
        }
    }
    let mut backoff = Backoff::new(bridge.patience);
    loop {
        match TcpStream::connect(&args.address).await {
            Ok(stream) => {
                tracing::info!(address = args.address, "connected");
                if read(stream, bridge).await? {
                    backoff.reset();
                }
                tracing::info!(address = args.address, "the connection has ended, connecting again");
            }
            Err(error) => tracing::warn!(address = args.address, %error, "no connection, trying again"),
        }
        tokio::time::sleep(backoff.after(Trouble::Network)).await;
    }
}

/// Takes a connection's lines; says whether there were any.
async fn read(mut stream: TcpStream, bridge: &Bridge) -> Result<bool> {
    let (mut lines, mut piece, mut any) = (Lines::default(), vec![0; 64 << 10], false);
    loop {
        let read = stream.read(&mut piece).await;
        let (end, cut) = match read {
            Ok(n) => {
                lines.push(&piece[..n]);
                (n == 0, false)
            }
            Err(error) => {
                tracing::warn!(%error, "the connection was cut");
                (true, true)
            }
        };
        while let Some(line) = lines.next() {
            any = true;
            take(&line, bridge).await?;
        }
        if end {
            // The last line needs no end, if the connection ended where its sender wanted. Of a cut one it is a part.
            let rest = lines.rest();
            if cut && !rest.is_empty() {
                bridge.delivery.bad(&rest, "the connection was cut within this line", None).await?;
            } else {
                take(&rest, bridge).await?;
            }
            return Ok(any);
        }
    }
}

async fn take(line: &[u8], bridge: &Bridge) -> Result<()> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let now = SystemClock::default().now();
    let text = std::str::from_utf8(line).map_err(|error| error.to_string());
    match text.and_then(|text| of_line(text, "socket", now.as_millis(), now)) {
        Ok(tweet) => bridge.delivery.send(&tweet, None).await,
        Err(why) => bridge.delivery.bad(line, &why, None).await,
    }
}
