//! One connection of the mesh.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cairn_types::Address;
use futures::future::BoxFuture;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, SubstreamProtocol};
use libp2p::{PeerId, Stream};
use tokio::time::{Sleep, sleep};

use super::allowance::Allowance;
use super::auth::{LinkContext, LinkFault, Role, authenticate};
use super::intake::{Inbox, Intake};
use super::outlet::{Outlet, Progress};
use super::{LinkUpgrade, Purpose};
use crate::message::Plane;
use crate::metrics::Metrics;
use crate::queue::Queues;

/// From the connection to both proofs.
pub(crate) const AUTH_TIME_MAX: Duration = Duration::from_secs(5);
/// Frames taken in before writing is looked at again.
const FRAMES_PER_TURN: usize = 32;
/// Slices written before reading is looked at again.
const SLICES_PER_TURN: usize = 32;

/// The mesh task's permission to carry messages.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) address: Address,
    pub(crate) queues: Arc<Queues>,
    pub(crate) lanes: [Lane; 2],
}

/// One plane's reading side.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) plane: Plane,
    pub(crate) allowance: Arc<Allowance>,
    pub(crate) inbox: Inbox,
}

/// What the connection reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// The other end proved to be this validator.
    Proven(Address),
    /// No link, or no more. Reported once.
    Ended(LinkFault),
}

enum Stage {
    /// No `auth` stream yet.
    Silent(Pin<Box<Sleep>>),
    Proving(Pin<Box<Sleep>>, BoxFuture<'static, Result<Address, LinkFault>>),
    /// Proven, or ended: the mesh task has the word.
    Reported,
    Open(Address, Arc<Queues>),
}

type HandlerEvent = ConnectionHandlerEvent<LinkUpgrade, Purpose, Report>;

/// Authenticates one connection, then carries both planes.
pub(crate) struct Handler {
    context: Arc<LinkContext>,
    upgrade: LinkUpgrade,
    remote: PeerId,
    role: Role,
    stage: Stage,
    /// Bounded: one report, and one stream request per purpose.
    events: VecDeque<HandlerEvent>,
    lanes: Vec<Lane>,
    parked: Vec<(Plane, Stream)>,
    intakes: Vec<Intake>,
    hot: Option<Outlet>,
    bulk: Option<Outlet>,
    metrics: Metrics,
}

impl Handler {
    pub(crate) fn new(
        context: Arc<LinkContext>,
        upgrade: LinkUpgrade,
        remote: PeerId,
        role: Role,
        metrics: Metrics,
    ) -> Self {
        let mut handler = Self {
            context,
            upgrade,
            remote,
            role,
            stage: Stage::Silent(Box::pin(sleep(AUTH_TIME_MAX))),
            events: VecDeque::new(),
            lanes: Vec::new(),
            parked: Vec::new(),
            intakes: Vec::new(),
            hot: None,
            bulk: None,
            metrics,
        };
        if role == Role::Dialer {
            handler.open(Purpose::Auth);
        }
        handler
    }

    fn open(&mut self, purpose: Purpose) {
        let protocol = SubstreamProtocol::new(self.upgrade.only(purpose), purpose);
        self.events.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
    }

    fn report(&mut self, report: Report) {
        self.events.push_back(ConnectionHandlerEvent::NotifyBehaviour(report));
    }

    fn end(&mut self, fault: LinkFault) {
        self.stage = Stage::Reported;
        self.hot = None;
        self.bulk = None;
        self.intakes.clear();
        self.parked.clear();
        self.report(Report::Ended(fault));
    }

    fn on_auth_stream(&mut self, stream: Stream) {
        // A second `auth` stream is dropped: one attempt per connection.
        let stage = std::mem::replace(&mut self.stage, Stage::Reported);
        self.stage = match stage {
            Stage::Silent(timer) => {
                let exchange = authenticate(stream, self.role, Arc::clone(&self.context), self.remote);
                Stage::Proving(timer, Box::pin(exchange))
            }
            other => other,
        };
    }

    fn on_plane_inbound(&mut self, plane: Plane, stream: Stream) {
        // One stream per plane: a second one is dropped, which the opener sees as a closed stream.
        match &self.stage {
            Stage::Open(address, _) => {
                let from = *address;
                if let Some(place) = self.lanes.iter().position(|lane| lane.plane == plane) {
                    let Lane { plane, allowance, inbox } = self.lanes.swap_remove(place);
                    let metrics = self.metrics.clone();
                    self.intakes.push(Intake::new(from, plane, stream, allowance, inbox, metrics));
                }
            }
            _ if self.parked.iter().any(|(parked, _)| *parked == plane) => {}
            _ => self.parked.push((plane, stream)),
        }
    }

    fn poll_auth(&mut self, cx: &mut Context<'_>) {
        let outcome = match &mut self.stage {
            Stage::Silent(timer) => timer.as_mut().poll(cx).map(|()| Err(LinkFault::Late)),
            Stage::Proving(timer, exchange) => match exchange.as_mut().poll(cx) {
                Poll::Pending => timer.as_mut().poll(cx).map(|()| Err(LinkFault::Late)),
                done => done,
            },
            Stage::Reported | Stage::Open(..) => return,
        };
        match outcome {
            Poll::Pending => {}
            Poll::Ready(Ok(address)) => {
                self.stage = Stage::Reported;
                self.report(Report::Proven(address));
            }
            Poll::Ready(Err(fault)) => self.end(fault),
        }
    }

    fn poll_planes(&mut self, cx: &mut Context<'_>) -> Result<(), LinkFault> {
        let Stage::Open(_, queues) = &self.stage else { return Ok(()) };
        let queues = Arc::clone(queues);
        queues.register(cx.waker());
        for outlet in [&mut self.hot, &mut self.bulk].into_iter().flatten() {
            outlet.check_open(cx)?;
        }
        let wrote_all = self.write(cx, &queues)?;
        let read_all = self.read(cx)?;
        if !(wrote_all && read_all) {
            // More can be done at once, after the connection has had its turn.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Writes hot before bulk, and looks at hot again after each slice of bulk.
    fn write(&mut self, cx: &mut Context<'_>, queues: &Queues) -> Result<bool, LinkFault> {
        for _ in 0..SLICES_PER_TURN {
            let mut progress = Progress::Waiting;
            for outlet in [&mut self.hot, &mut self.bulk].into_iter().flatten() {
                progress = outlet.poll_slice(cx, queues, &self.metrics)?;
                if progress == Progress::Wrote {
                    break;
                }
            }
            if progress == Progress::Waiting {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkFault> {
        let mut read_all = true;
        for intake in &mut self.intakes {
            let mut frames = 0;
            while let Poll::Ready(taken) = intake.poll_frame(cx) {
                taken?;
                frames += 1;
                if frames == FRAMES_PER_TURN {
                    read_all = false;
                    break;
                }
            }
        }
        Ok(read_all)
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Admission;
    type ToBehaviour = Report;
    type InboundProtocol = LinkUpgrade;
    type OutboundProtocol = LinkUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Purpose;

    fn listen_protocol(&self) -> SubstreamProtocol<LinkUpgrade> {
        SubstreamProtocol::new(self.upgrade.clone(), ())
    }

    /// Links live until the mesh task ends them.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<HandlerEvent> {
        self.poll_auth(cx);
        if let Err(fault) = self.poll_planes(cx) {
            self.end(fault);
        }
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, admission: Admission) {
        if !matches!(self.stage, Stage::Reported) {
            return;
        }
        self.stage = Stage::Open(admission.address, admission.queues);
        self.lanes = admission.lanes.into();
        for plane in Plane::ALL {
            self.open(Purpose::Carry(plane));
        }
        for (plane, stream) in std::mem::take(&mut self.parked) {
            self.on_plane_inbound(plane, stream);
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LinkUpgrade, LinkUpgrade, (), Purpose>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                match protocol {
                    (stream, Purpose::Auth) if self.role == Role::Listener => self.on_auth_stream(stream),
                    (_, Purpose::Auth) => {}
                    (stream, Purpose::Carry(plane)) => self.on_plane_inbound(plane, stream),
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                match protocol {
                    (stream, Purpose::Auth) => self.on_auth_stream(stream),
                    (stream, Purpose::Carry(plane)) if matches!(self.stage, Stage::Open(..)) => {
                        let outlet = Outlet::new(plane, stream);
                        match plane {
                            Plane::Hot => self.hot = Some(outlet),
                            Plane::Bulk => self.bulk = Some(outlet),
                        }
                    }
                    _ => {}
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { .. }) => self.end(LinkFault::Unsupported),
            _ => {}
        }
    }
}
