//! Which addresses are listened on. A reload opens what is new before anything changes, and closes what is gone when the
//! new configuration is served; what stays keeps its sockets and their queues. Accepts nothing itself.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::settings::{Listen, Server};
use crate::net::listen::{Bound, Inherited, bind};

/// What is done for whoever connects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Answers Envoy's gRPC.
    Checks,
    Redirects,
    Serves,
}

impl Purpose {
    /// As it is configured now.
    pub fn of(settings: &Server, listen: &Listen) -> Self {
        if settings.redirect_listen().contains(listen) {
            Self::Redirects
        } else if settings.forward_auth.grpc_listen.as_ref() == Some(listen) {
            Self::Checks
        } else {
            Self::Serves
        }
    }
}

/// For one worker: a socket to accept from until `stop` is cancelled.
pub struct Opened {
    pub socket: Bound,
    pub listen: Arc<Listen>,
    pub stop: CancellationToken,
}

pub struct Listeners {
    inherited: Inherited,
    /// One a worker.
    workers: Vec<mpsc::UnboundedSender<Opened>>,
    open: Vec<(Arc<Listen>, CancellationToken)>,
}

/// What is to be listened on, with every new socket bound. Dropped, it changes nothing.
pub struct Change {
    opened: Vec<(Arc<Listen>, Vec<Bound>)>,
    wanted: Vec<Listen>,
}

impl Listeners {
    /// And where each worker learns of its sockets.
    pub fn new(inherited: Inherited, workers: usize) -> (Self, Vec<mpsc::UnboundedReceiver<Opened>>) {
        let (workers, receivers) = (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        (Self { inherited, workers, open: Vec::new() }, receivers)
    }

    /// Binds what `settings` name and is not open. Errors name the address.
    pub fn prepare(&self, settings: &Server) -> io::Result<Change> {
        let wanted: Vec<Listen> = settings.listeners().cloned().collect();
        let held: Vec<Listen> = self.open.iter().map(|(listen, _)| (**listen).clone()).collect();
        let mut opened = Vec::new();
        for listen in wanted.iter().filter(|listen| !held.contains(listen)) {
            opened.push((Arc::new(listen.clone()), bind(listen, self.workers.len(), &self.inherited, &held)?));
        }
        Ok(Change { opened, wanted })
    }

    /// The workers accept from what is new, and no more from what is not wanted.
    pub fn commit(&mut self, change: Change) {
        self.open.retain(|(listen, stop)| {
            let stays = change.wanted.contains(listen);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (listen, sockets) in change.opened {
            let stop = CancellationToken::new();
            for (worker, socket) in self.workers.iter().zip(sockets) {
                // One that has ended ends the process.
                let _ = worker.send(Opened { socket, listen: Arc::clone(&listen), stop: stop.clone() });
            }
            self.open.push((listen, stop));
        }
    }
}
