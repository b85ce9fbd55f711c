//! The ports of one domain, and what happens in one domain alone.

use core::iter;

use xen_abi::DomId;
use xen_abi::event_channel::{PortStatus, TWO_LEVEL_CHANNELS};
use xen_abi::virq::NR_VIRQS;

use super::{EventError, Port, SharedPage, VcpuId, Virq, VirqKind, page, page::Raised};

use super::alloc::vec::Vec;

/// What a port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortState {
    /// Not in use.
    Closed,
    /// Waits for a domain to bind to it.
    Unbound {
        /// Who may.
        remote: DomId,
    },
    /// Connected to another port, which is connected to this one.
    Interdomain {
        /// Whose port, the domain's own perhaps.
        remote: DomId,
        /// Which.
        port: Port,
    },
    /// Connected to a virtual interrupt.
    Virq(Virq),
    /// Notifies a vCPU of the domain itself.
    Ipi,
}

/// What a domain is told of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// What it is.
    pub state: PortState,
    /// The vCPU that is notified.
    pub vcpu: VcpuId,
}

impl Status {
    /// In the words of the ABI: status, vCPU, and the union's two words.
    pub fn to_abi(self) -> (PortStatus, u32, [u32; 2]) {
        let (status, detail) = match self.state {
            PortState::Closed => (PortStatus::Closed, [0, 0]),
            PortState::Unbound { remote } => (PortStatus::Unbound, [u32::from(remote.get()), 0]),
            PortState::Interdomain { remote, port } => (
                PortStatus::Interdomain,
                [u32::from(remote.get()), port.get()],
            ),
            PortState::Virq(virq) => (PortStatus::Virq, [virq.get(), 0]),
            PortState::Ipi => (PortStatus::Ipi, [0, 0]),
        };
        (status, self.vcpu.get(), detail)
    }
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    state: PortState,
    /// Of a closed port always vCPU 0.
    vcpu: VcpuId,
    /// The hypervisor has this end, for a device that it emulates: to the domain the port is closed.
    of_device: bool,
}

impl Channel {
    const CLOSED: Self = Self {
        state: PortState::Closed,
        vcpu: VcpuId::ZERO,
        of_device: false,
    };
}

/// The ports of the virtual interrupts of one vCPU, by number.
type VirqPorts = [Option<Port>; NR_VIRQS];

/// The ports of one domain. Grows as ports are used, up to the domain's limit.
#[derive(Debug)]
pub struct PortTable {
    domain: DomId,
    /// Port 1 first.
    channels: Vec<Channel>,
    /// The most channels.
    limit: usize,
    /// No port below it is closed.
    lowest_closed: Port,
    /// For each vCPU. Interrupts of the whole domain are in the first.
    virqs: Vec<VirqPorts>,
    dying: bool,
}

impl PortTable {
    /// The table of `domain` with that many vCPUs, without open ports. `highest_port` is the
    /// toolstack's limit; the ABI's own is 4095.
    ///
    /// # Errors
    /// [`EventError::NoMemory`].
    pub fn new(domain: DomId, vcpus: u32, highest_port: u32) -> Result<Self, EventError> {
        let vcpus = vcpus as usize;
        let mut virqs = Vec::new();
        virqs
            .try_reserve_exact(vcpus)
            .map_err(|_| EventError::NoMemory)?;
        virqs.extend(iter::repeat_n([None; NR_VIRQS], vcpus));
        Ok(Self {
            domain,
            channels: Vec::new(),
            limit: highest_port.min(TWO_LEVEL_CHANNELS - 1) as usize,
            lowest_closed: Port::FIRST,
            virqs,
            dying: false,
        })
    }

    /// Whose ports they are.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// The first open port from `from` upwards.
    pub fn next_open(&self, from: Port) -> Option<Port> {
        let start = index(from);
        let open = |channel: &Channel| channel.state != PortState::Closed;
        let place = self.channels.get(start..)?.iter().position(open)?;
        Port::new((start + place) as u32 + 1)
    }

    /// From now on no port is opened. The caller then closes those that are, by
    /// [`reset`](super::reset).
    pub fn retire(&mut self) {
        self.dying = true;
    }

    /// What a port is. Port 0 is closed.
    ///
    /// # Errors
    /// [`EventError::NotOpen`] above all ports that were ever open: who asks for one after the
    /// other can stop there.
    pub fn status(&self, port: u32) -> Result<Status, EventError> {
        let channel = match port {
            0 => &Channel::CLOSED,
            _ => self.known(port)?.1,
        };
        Ok(Status {
            state: if channel.of_device {
                PortState::Closed
            } else {
                channel.state
            },
            vcpu: channel.vcpu,
        })
    }

    /// Opens a port for a virtual interrupt.
    ///
    /// # Errors
    /// [`EventError::NoVirq`], [`EventError::NotPerVcpu`], [`EventError::NoVcpu`],
    /// [`EventError::VirqBound`], and those of having no port to open.
    pub fn bind_virq(&mut self, virq: u32, vcpu: u32) -> Result<Port, EventError> {
        let virq = Virq::new(virq).ok_or(EventError::NoVirq(virq))?;
        if virq.kind() != VirqKind::PerVcpu && vcpu != 0 {
            return Err(EventError::NotPerVcpu(virq.get()));
        }
        let vcpu = self.vcpu(vcpu)?;
        if self.virq_port(virq, vcpu).is_some() {
            return Err(EventError::VirqBound(virq.get()));
        }
        let port = self.free_port()?;
        self.open(port, PortState::Virq(virq), vcpu);
        self.set_virq_port(virq, vcpu, Some(port));
        Ok(port)
    }

    /// Opens a port that notifies a vCPU of the same domain.
    ///
    /// # Errors
    /// [`EventError::NoVcpu`], and those of having no port to open.
    pub fn bind_ipi(&mut self, vcpu: u32) -> Result<Port, EventError> {
        let vcpu = self.vcpu(vcpu)?;
        let port = self.free_port()?;
        self.open(port, PortState::Ipi, vcpu);
        Ok(port)
    }

    /// From now on `port` notifies `vcpu`.
    ///
    /// # Errors
    /// [`EventError::NoVcpu`], [`EventError::NotOpen`]; [`EventError::WrongKind`] for what belongs
    /// to one vCPU.
    pub fn bind_vcpu(&mut self, port: u32, vcpu: u32) -> Result<(), EventError> {
        let vcpu = self.vcpu(vcpu)?;
        let channel = self.open_mut(port)?;
        match channel.state {
            PortState::Virq(virq) if virq.kind() == VirqKind::PerVcpu => {
                Err(EventError::WrongKind(port))
            }
            PortState::Ipi => Err(EventError::WrongKind(port)),
            _ => {
                channel.vcpu = vcpu;
                Ok(())
            }
        }
    }

    /// Clears the port's mask, and tells the guest of an event that has waited for that.
    ///
    /// # Errors
    /// [`EventError::NotOpen`].
    pub fn unmask<P: SharedPage>(&self, page: &P, port: u32) -> Result<Option<Raised>, EventError> {
        let (port, channel) = self.open_port(port)?;
        Ok(page::unmask(page, self.domain, port, channel.vcpu))
    }

    /// Raises a virtual interrupt. `vcpu` counts for those that each vCPU has. Nothing happens if
    /// the domain has no port for it.
    pub fn raise_virq<P: SharedPage>(&self, page: &P, virq: Virq, vcpu: VcpuId) -> Option<Raised> {
        let port = self.virq_port(virq, vcpu)?;
        self.raise(page, port)
    }

    /// Opens a port whose near end a device has that the hypervisor emulates for the domain: it waits
    /// for `remote`.
    ///
    /// # Errors
    /// Those of having no port to open.
    pub fn open_for_device(&mut self, remote: DomId) -> Result<Port, EventError> {
        let port = self.free_port()?;
        self.open(port, PortState::Unbound { remote }, VcpuId::ZERO);
        if let Some(channel) = self.channels.get_mut(index(port)) {
            channel.of_device = true;
        }
        Ok(port)
    }

    /// Makes an open port pending.
    pub(super) fn raise<P: SharedPage>(&self, page: &P, port: Port) -> Option<Raised> {
        let channel = self.channels.get(index(port));
        let channel = channel.filter(|channel| channel.state != PortState::Closed)?;
        if channel.of_device {
            return Some(Raised {
                domain: self.domain,
                port,
                upcall: None,
                of_device: true,
            });
        }
        page::raise(page, self.domain, port, channel.vcpu)
    }

    /// Opens a port that waits for `remote`.
    pub(super) fn open_unbound(&mut self, remote: DomId) -> Result<Port, EventError> {
        let port = self.free_port()?;
        self.open(port, PortState::Unbound { remote }, VcpuId::ZERO);
        Ok(port)
    }

    /// Makes `port` what `state` says.
    pub(super) fn open(&mut self, port: Port, state: PortState, vcpu: VcpuId) {
        if let Some(channel) = self.channels.get_mut(index(port)) {
            *channel = Channel {
                state,
                vcpu,
                of_device: false,
            };
        }
    }

    /// Makes an open port what `state` says; its vCPU stays.
    pub(super) fn change(&mut self, port: Port, state: PortState) {
        if let Some(channel) = self.channels.get_mut(index(port)) {
            channel.state = state;
        }
    }

    /// Closes `port` on this side. An event that it had is gone, so that who gets the port next
    /// does not see it.
    pub(super) fn close<P: SharedPage>(&mut self, page: &P, port: Port) {
        let Some(channel) = self.channels.get_mut(index(port)) else {
            return;
        };
        let closed = core::mem::replace(channel, Channel::CLOSED);
        if let PortState::Virq(virq) = closed.state {
            self.set_virq_port(virq, closed.vcpu, None);
        }
        self.lowest_closed = self.lowest_closed.min(port);
        page.clear_pending(port);
    }

    /// A closed port, made room for.
    pub(super) fn free_port(&mut self) -> Result<Port, EventError> {
        if self.dying {
            return Err(EventError::Dying(self.domain));
        }
        let closed = |channel: &Channel| channel.state == PortState::Closed;
        let start = index(self.lowest_closed);
        let known = self.channels.get(start..).unwrap_or_default();
        let place = start + known.iter().position(closed).unwrap_or(known.len());
        if place >= self.limit {
            return Err(EventError::NoFreePort(self.domain));
        }
        if place == self.channels.len() {
            self.channels
                .try_reserve(1)
                .map_err(|_| EventError::NoMemory)?;
            self.channels.push(Channel::CLOSED);
        }
        let port = Port::new(place as u32 + 1).ok_or(EventError::NoFreePort(self.domain))?;
        self.lowest_closed = port;
        Ok(port)
    }

    /// What the port of this number is, a device's too.
    pub(super) fn any_state(&self, port: u32) -> Result<(Port, PortState), EventError> {
        let (known, channel) = self.known(port)?;
        match channel.state {
            PortState::Closed => Err(EventError::NotOpen(port)),
            state => Ok((known, state)),
        }
    }

    /// What the open port of this number is.
    pub(super) fn open_state(&self, port: u32) -> Result<(Port, PortState), EventError> {
        let (port, channel) = self.open_port(port)?;
        Ok((port, channel.state))
    }

    /// Whether `port` is connected to `peer` of `remote`.
    pub(super) fn is_connected(&self, port: Port, remote: DomId, peer: Port) -> bool {
        let expected = PortState::Interdomain { remote, port: peer };
        self.any_state(port.get())
            .is_ok_and(|(_, state)| state == expected)
    }

    /// The channel of a port that was ever open.
    fn known(&self, port: u32) -> Result<(Port, &Channel), EventError> {
        let error = EventError::NotOpen(port);
        let port = Port::new(port).ok_or(error)?;
        let channel = self.channels.get(index(port)).ok_or(error)?;
        Ok((port, channel))
    }

    fn open_port(&self, port: u32) -> Result<(Port, &Channel), EventError> {
        let (known, channel) = self.known(port)?;
        match channel.state {
            PortState::Closed => Err(EventError::NotOpen(port)),
            _ if channel.of_device => Err(EventError::WrongKind(port)),
            _ => Ok((known, channel)),
        }
    }

    fn open_mut(&mut self, port: u32) -> Result<&mut Channel, EventError> {
        let (open, _) = self.open_port(port)?;
        self.channels
            .get_mut(index(open))
            .ok_or(EventError::NotOpen(port))
    }

    fn vcpu(&self, number: u32) -> Result<VcpuId, EventError> {
        if (number as usize) < self.virqs.len() {
            Ok(VcpuId::new(number))
        } else {
            Err(EventError::NoVcpu(number))
        }
    }

    fn virq_port(&self, virq: Virq, vcpu: VcpuId) -> Option<Port> {
        let ports = self.virqs.get(virq_row(virq, vcpu))?;
        ports.get(virq.index()).copied().flatten()
    }

    fn set_virq_port(&mut self, virq: Virq, vcpu: VcpuId, port: Option<Port>) {
        let ports = self.virqs.get_mut(virq_row(virq, vcpu));
        if let Some(place) = ports.and_then(|ports| ports.get_mut(virq.index())) {
            *place = port;
        }
    }
}

/// Where a port's channel is.
fn index(port: Port) -> usize {
    port.get() as usize - 1
}

/// Whose ports hold the interrupt's: a global one may notify any vCPU and is of vCPU 0.
fn virq_row(virq: Virq, vcpu: VcpuId) -> usize {
    match virq.kind() {
        VirqKind::PerVcpu => vcpu.get() as usize,
        VirqKind::PerDomain | VirqKind::Global => 0,
    }
}
