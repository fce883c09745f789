//! One connection to the target and the call it carries.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::response::{Event, Response};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Connection {
    token: u64,
    socket: Option<TcpStream>,
    pub(crate) request: Vec<u8>,
    written: usize,
    waits_to_write: bool,
    pub(crate) response: Response,
    pub(crate) busy: bool,
    /// When the call was due.
    pub(crate) due_ns: u64,
    /// Whether the call was due within the measured window.
    pub(crate) counted: bool,
}

impl Connection {
    pub(crate) fn new(token: usize) -> Self {
        Self {
            token: token as u64,
            socket: None,
            request: Vec::new(),
            written: 0,
            waits_to_write: false,
            response: Response::new(),
            busy: false,
            due_ns: 0,
            counted: false,
        }
    }

    /// Sends what is in `request`, connecting first where needed.
    pub(crate) fn start(&mut self, target: SocketAddr, epoll: &OwnedFd) -> anyhow::Result<()> {
        if self.socket.is_none() {
            let socket = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT)
                .with_context(|| format!("connecting to {target}"))?;
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            epoll::add(
                epoll,
                &socket,
                EventData::new_u64(self.token),
                EventFlags::IN,
            )?;
            self.socket = Some(socket);
        }
        self.written = 0;
        self.waits_to_write = false;
        self.response = Response::new();
        self.busy = true;
        self.write(epoll)
    }

    /// Writes as much as the socket takes.
    pub(crate) fn write(&mut self, epoll: &OwnedFd) -> anyhow::Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        while let Some(rest) = self
            .request
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match socket.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let waits = self.written < self.request.len();
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let flags = if waits {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(epoll, &*socket, EventData::new_u64(self.token), flags)?;
        }
        Ok(())
    }

    /// Reads what is there; true when the call has its whole answer.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut on_event: impl FnMut(Event),
    ) -> anyhow::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        loop {
            let count = match socket.read(buffer) {
                Ok(0) => bail!("the target closed the connection"),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            self.response
                .feed(buffer.get(..count).unwrap_or_default(), &mut on_event)?;
            if self.response.ended() {
                self.busy = false;
                return Ok(true);
            }
            if count < buffer.len() {
                return Ok(false);
            }
        }
    }

    pub(crate) fn close(&mut self) {
        self.socket = None;
        self.busy = false;
    }
}
