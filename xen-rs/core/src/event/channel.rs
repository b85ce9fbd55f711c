//! What concerns two domains.

use xen_abi::DomId;

use super::page::Raised;
use super::{EventError, Port, PortState, PortTable, SharedPage, Status, VcpuId, Virq};

/// Who makes a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The domain.
    pub domain: DomId,
    /// Whether it may act on others' ports: it is the control domain.
    pub privileged: bool,
}

impl Caller {
    /// Whom it means.
    fn resolve(self, domain: DomId) -> DomId {
        if domain == DomId::SELF {
            self.domain
        } else {
            domain
        }
    }

    fn may_act_on(self, target: DomId) -> Result<(), EventError> {
        if target == self.domain || self.privileged {
            return Ok(());
        }
        let caller = self.domain;
        Err(EventError::NotPermitted { caller, target })
    }
}

/// One domain, locked.
pub struct Side<'a, P> {
    /// Its ports.
    pub ports: &'a mut PortTable,
    /// Its shared page.
    pub page: &'a P,
}

/// Two domains, locked, which may be one.
pub enum Pair<'a, P> {
    /// Both are this one.
    Same(Side<'a, P>),
    /// The first and the second that were asked for.
    Two(Side<'a, P>, Side<'a, P>),
}

impl<P> Pair<'_, P> {
    fn first(&mut self) -> Side<'_, P> {
        let (Self::Same(side) | Self::Two(side, _)) = self;
        Side {
            ports: side.ports,
            page: side.page,
        }
    }

    fn second(&mut self) -> Side<'_, P> {
        let (Self::Same(side) | Self::Two(_, side)) = self;
        Side {
            ports: side.ports,
            page: side.page,
        }
    }
}

/// The domains' tables, each under a lock of its own.
///
/// Lock order: [`two`](Self::two) takes the lock of the lower id first. No operation here calls
/// one method from within the closure of another, so that these are the only locks held together.
/// Virtual interrupts are raised from interrupt handlers: the locks are held with interrupts off.
pub trait Domains {
    /// The page of a domain.
    type Page: SharedPage;

    /// Calls `f` with the domain of this id, locked; `None` if there is none.
    fn one<R>(&self, domain: DomId, f: impl FnOnce(Side<'_, Self::Page>) -> R) -> Option<R>;

    /// Calls `f` with both domains, locked, in this order; `None` if one does not exist.
    fn two<R>(
        &self,
        first: DomId,
        second: DomId,
        f: impl FnOnce(Pair<'_, Self::Page>) -> R,
    ) -> Option<R>;
}

/// Opens a port of `domain` that `remote` may bind to.
///
/// # Errors
/// [`EventError::NoDomain`], [`EventError::NotPermitted`], and those of having no port to open.
pub fn alloc_unbound(
    domains: &impl Domains,
    caller: Caller,
    domain: DomId,
    remote: DomId,
) -> Result<Port, EventError> {
    let (domain, remote) = (caller.resolve(domain), caller.resolve(remote));
    in_one(domains, domain, |side| {
        caller.may_act_on(domain)?;
        side.ports.open_unbound(remote)
    })
}

/// What a port of `domain` is.
///
/// # Errors
/// [`EventError::NoDomain`], [`EventError::NotOpen`], [`EventError::NotPermitted`].
pub fn status(
    domains: &impl Domains,
    caller: Caller,
    domain: DomId,
    port: u32,
) -> Result<Status, EventError> {
    let domain = caller.resolve(domain);
    in_one(domains, domain, |side| {
        let status = side.ports.status(port)?;
        caller.may_act_on(domain)?;
        Ok(status)
    })
}

/// Opens a port of the caller and connects it to `remote_port`, which waits for it. The new port
/// is pending at once: the other end may have been sent to before.
///
/// # Errors
/// [`EventError::NoDomain`], [`EventError::NotOpen`], [`EventError::NotOffered`], and those of
/// having no port to open.
pub fn bind_interdomain(
    domains: &impl Domains,
    caller: Caller,
    remote: DomId,
    remote_port: u32,
) -> Result<(Port, Option<Raised>), EventError> {
    let local = caller.domain;
    let remote = caller.resolve(remote);
    let bind = |mut pair: Pair<'_, _>| {
        let port = pair.first().ports.free_port()?;
        let offered = offered_port(pair.second().ports, remote_port, local)?;
        let to_remote = PortState::Interdomain {
            remote,
            port: offered,
        };
        let to_local = PortState::Interdomain {
            remote: local,
            port,
        };
        pair.first().ports.open(port, to_remote, VcpuId::ZERO);
        pair.second().ports.change(offered, to_local);
        let first = pair.first();
        Ok((port, first.ports.raise(first.page, port)))
    };
    domains
        .two(local, remote, bind)
        .ok_or(EventError::NoDomain(remote))?
}

/// The port of this number, if it waits for `caller`.
fn offered_port(ports: &PortTable, port: u32, caller: DomId) -> Result<Port, EventError> {
    let (offered, state) = ports.any_state(port)?;
    match state {
        PortState::Unbound { remote } if remote == caller => Ok(offered),
        _ => Err(EventError::NotOffered {
            domain: ports.domain(),
            port,
            caller,
        }),
    }
}

/// Where a notification goes.
enum Target {
    /// Nowhere further: to nobody, or it stayed in the domain.
    Done(Option<Raised>),
    /// To this port of that domain.
    Peer(DomId, Port),
}

/// Notifies the other end of a port of the caller. Nobody hears a port that is unbound.
///
/// The two ends are locked one after the other. Where the channel was closed in between, that is
/// as if it had been closed before.
///
/// # Errors
/// [`EventError::NotOpen`], [`EventError::WrongKind`].
pub fn send(
    domains: &impl Domains,
    caller: Caller,
    port: u32,
) -> Result<Option<Raised>, EventError> {
    let local = caller.domain;
    let (port, target) = in_one(domains, local, |side| {
        let (port, state) = side.ports.open_state(port)?;
        let target = match state {
            PortState::Interdomain { remote, port } => Target::Peer(remote, port),
            PortState::Ipi => Target::Done(side.ports.raise(side.page, port)),
            PortState::Unbound { .. } => Target::Done(None),
            PortState::Virq(_) | PortState::Closed => {
                return Err(EventError::WrongKind(port.get()));
            }
        };
        Ok((port, target))
    })?;
    match target {
        Target::Done(raised) => Ok(raised),
        Target::Peer(remote, peer) => Ok(notify(domains, (local, port), (remote, peer))),
    }
}

/// Notifies who is connected to a port of a device that the hypervisor emulates for `domain`.
pub fn send_for_device(domains: &impl Domains, domain: DomId, port: Port) -> Option<Raised> {
    let state = domains.one(domain, |side| side.ports.any_state(port.get()));
    match state {
        Some(Ok((_, PortState::Interdomain { remote, port: peer }))) => {
            notify(domains, (domain, port), (remote, peer))
        }
        _ => None,
    }
}

/// Whether anybody is connected to a port of a device that the hypervisor emulates for `domain`.
pub fn is_device_connected(domains: &impl Domains, domain: DomId, port: Port) -> bool {
    let state = domains.one(domain, |side| side.ports.any_state(port.get()));
    matches!(state, Some(Ok((_, PortState::Interdomain { .. }))))
}

/// Makes a peer pending if it is connected to a port still.
fn notify(
    domains: &impl Domains,
    (local, port): (DomId, Port),
    (remote, peer): (DomId, Port),
) -> Option<Raised> {
    let notify = |side: Side<'_, _>| {
        let connected = side.ports.is_connected(peer, local, port);
        connected.then(|| side.ports.raise(side.page, peer))?
    };
    domains.one(remote, notify).flatten()
}

/// Closes a port of the caller. The other end, if any, waits for the caller again.
///
/// # Errors
/// [`EventError::NotOpen`], also where the port was closed and opened again meanwhile.
pub fn close(domains: &impl Domains, caller: Caller, port: u32) -> Result<(), EventError> {
    close_if(domains, caller.domain, port, PortTable::open_state)
}

/// What a port is, if it may be closed.
type MayClose = fn(&PortTable, u32) -> Result<(Port, PortState), EventError>;

fn close_if(
    domains: &impl Domains,
    local: DomId,
    port: u32,
    state_of: MayClose,
) -> Result<(), EventError> {
    let remote = in_one(domains, local, |side| {
        let (open, state) = state_of(side.ports, port)?;
        if let PortState::Interdomain { remote, .. } = state {
            return Ok(Some(remote));
        }
        side.ports.close(side.page, open);
        Ok(None)
    })?;
    match remote {
        None => Ok(()),
        Some(remote) => domains
            .two(local, remote, |pair| disconnect(pair, port))
            .ok_or(EventError::NotOpen(port))?,
    }
}

/// Closes a port of the first domain that was connected to the second when last looked at.
fn disconnect<P: SharedPage>(mut pair: Pair<'_, P>, port: u32) -> Result<(), EventError> {
    let local = pair.first().ports.domain();
    let second = pair.second().ports.domain();
    let (open, state) = pair.first().ports.any_state(port)?;
    match state {
        PortState::Interdomain { remote, port: peer } if remote == second => {
            let waits = PortState::Unbound { remote: local };
            pair.second().ports.change(peer, waits);
        }
        PortState::Interdomain { .. } => return Err(EventError::NotOpen(port)),
        _ => {}
    }
    let first = pair.first();
    first.ports.close(first.page, open);
    Ok(())
}

/// Closes all ports of `domain`: at most 4095, each in two short critical sections.
///
/// The caller of this for another domain sees to it that the domain does not run.
///
/// # Errors
/// [`EventError::NoDomain`], [`EventError::NotPermitted`].
pub fn reset(domains: &impl Domains, caller: Caller, domain: DomId) -> Result<(), EventError> {
    let domain = caller.resolve(domain);
    let mut next = in_one(domains, domain, |side| {
        caller.may_act_on(domain)?;
        Ok(side.ports.next_open(Port::FIRST))
    })?;
    let owner = Caller {
        domain,
        privileged: false,
    };
    while let Some(port) = next {
        // A port that someone has closed meanwhile is what is wanted.
        let _ = close(domains, owner, port.get());
        next = match port.next() {
            Some(from) => in_one(domains, domain, |side| Ok(side.ports.next_open(from)))?,
            None => None,
        };
    }
    Ok(())
}

/// Closes ports of a domain that is being destroyed, and has been [retired](PortTable::retire): at
/// most so many. Returns whether there may be more.
pub fn close_some(domains: &impl Domains, domain: DomId, most: u32) -> bool {
    let mut from = Port::FIRST;
    for _ in 0..most {
        let next = domains.one(domain, |side| side.ports.next_open(from));
        let Some(port) = next.flatten() else {
            return false;
        };
        // A port that its other end has changed meanwhile is looked at again.
        let _ = close_if(domains, domain, port.get(), PortTable::any_state);
        from = port;
    }
    true
}

/// Raises a virtual interrupt of `domain`; `vcpu` counts for those that each vCPU has. Nothing
/// happens where nobody has bound it.
pub fn raise_virq(
    domains: &impl Domains,
    domain: DomId,
    virq: Virq,
    vcpu: VcpuId,
) -> Option<Raised> {
    let raise = |side: Side<'_, _>| side.ports.raise_virq(side.page, virq, vcpu);
    domains.one(domain, raise).flatten()
}

fn in_one<D: Domains, R>(
    domains: &D,
    domain: DomId,
    f: impl FnOnce(Side<'_, D::Page>) -> Result<R, EventError>,
) -> Result<R, EventError> {
    domains.one(domain, f).ok_or(EventError::NoDomain(domain))?
}
