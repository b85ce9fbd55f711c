//! What becomes of each node of the host's tree in Dom0's.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::error::Dom0Error;
use super::index::{Id, Index};
use super::interrupts::Interrupts;
use super::plan::Dom0Plan;
use crate::error::Path;
use crate::host::is_gic;
use crate::{Dtb, Host, Node, TreeError};
use xen_types::IntId;

/// What becomes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Dom0 sees and gets it.
    Kept,
    /// Dom0 sees it disabled: it is for a guest, or below such a node.
    Assigned,
    /// Dom0 sees it disabled: it cannot be had without something that is not Dom0's.
    Withheld,
    /// Dom0 does not see it, nor anything below.
    Dropped,
    /// It is the interrupt controller or a part of it, which are replaced.
    Gic,
}

/// Nodes that describe what the hypervisor provides itself or does not offer, and what only boot
/// loaders tell hypervisors.
const DROPPED: &[&str] = &[
    "xen,domain",
    "xen,domain-shared-memory-v1",
    "xen,evtchn-v1",
    "xen,xen",
    "xen,multiboot-module",
    "multiboot,module",
    "arm,psci",
    "arm,psci-0.2",
    "arm,psci-1.0",
    "arm,cortex-a53-edac",
    "arm,armv8-timer",
    "arm,armv7-timer",
    "arm,armv7-timer-mem",
    "arm,gic-v3-its",
    "arm,gic-v2m-frame",
    "arm,dsu-pmu",
    "numa-distance-map-v1",
];
/// Children of the root whose names the new nodes take.
const REPLACED: &[&str] = &["cpus", "psci", "hypervisor", "timer"];

/// IOMMUs that the hypervisor drives: SMMUv1 to v3 and the IPMMU.
const IOMMUS: &[&str] = &[
    "arm,smmu-v1",
    "arm,smmu-v2",
    "arm,smmu-v3",
    "arm,mmu-400",
    "arm,mmu-401",
    "arm,mmu-500",
    "cavium,smmu-v2",
    "qcom,smmu-v2",
    "qcom,smmu-500",
    "renesas,ipmmu-vmsa",
];
/// How the names of the IPMMU in each of Renesas's systems begin.
const IPMMU: &str = "renesas,ipmmu-";

/// Whether `node` is an IOMMU of a kind that the hypervisor keeps for itself.
pub(super) fn is_iommu(node: Node<'_>) -> bool {
    let compatible = node.property("compatible");
    let mut kinds = compatible.into_iter().flat_map(|list| list.strings());
    kinds.any(|kind| IOMMUS.contains(&kind) || kind.starts_with(IPMMU))
}

/// Whether `node` is a performance monitor of processors, whose registers Dom0 does not have.
fn is_cpu_pmu(node: Node<'_>) -> bool {
    let compatible = node.property("compatible");
    let mut kinds = compatible.into_iter().flat_map(|list| list.strings());
    let of_a_core = |kind: &str| {
        kind == "arm,armv8-pmuv3"
            || kind.ends_with("-pmu")
                && (kind.starts_with("arm,cortex-") || kind.starts_with("arm,neoverse-"))
    };
    node.property("interrupt-affinity").is_some() || kinds.any(of_a_core)
}

/// The fate of each node.
pub(super) struct Fates {
    fates: Vec<Fate>,
    /// The host's interrupt controller.
    pub gic: Id,
    /// The nodes by which the plan names the console and other hidden ones.
    pub hidden: Vec<Id>,
    /// The phandles that lead nowhere in Dom0's tree.
    pub lost: BTreeSet<u32>,
}

impl Fates {
    pub(super) fn new(
        dtb: &Dtb<'_>,
        index: &Index<'_>,
        host: &Host,
        plan: &Dom0Plan<'_>,
    ) -> Result<Self, Dom0Error> {
        let resolve = |place: &str, name: &str| resolve(dtb, index, place, name);
        let gic = resolve("the interrupt controller", host.gic.path())?;
        let console = plan
            .console
            .into_iter()
            .map(|name| resolve("console", name));
        let hidden = plan.hidden.iter().map(|name| resolve("hidden", name));
        let hidden: Vec<Id> = console.chain(hidden).collect::<Result<_, _>>()?;
        let named = plan.passthrough.iter();
        let named: Vec<Id> = named
            .map(|name| resolve("assignable=", name))
            .collect::<Result<_, _>>()?;
        for bridge in plan.bridges {
            resolve("the PCI host bridges", bridge.path)?;
        }
        let gic_parts = plan.gic.kept_children();
        let gic_parts: Vec<Id> = gic_parts
            .map(|path| resolve("the interrupt controller", path))
            .collect::<Result<_, _>>()?;
        let judge = Judge {
            index,
            interrupts: Interrupts { index, gic },
            hidden: &hidden,
            assigned: &named,
            gic_parts: &gic_parts,
        };
        let fates = judge.all();
        let mut fates = Self {
            fates,
            gic,
            hidden,
            lost: BTreeSet::new(),
        };
        fates.check(index, &named, &gic_parts)?;
        fates.lost = fates.lost_phandles(index);
        Ok(fates)
    }

    pub(super) fn of(&self, id: Id) -> Fate {
        self.fates[id.place()]
    }

    /// Withholds a node and all below it.
    pub(super) fn withhold(&mut self, index: &Index<'_>, top: Id) {
        let kept = |fate: &&mut Fate| **fate == Fate::Kept;
        for fate in self.fates[index.places(top)].iter_mut().filter(kept) {
            *fate = Fate::Withheld;
        }
    }

    fn check(&self, index: &Index<'_>, named: &[Id], gic_parts: &[Id]) -> Result<(), Dom0Error> {
        let gic = Path::new(index.node(self.gic));
        if self.of(self.gic) != Fate::Gic {
            return Err(Dom0Error::GicDropped { node: gic });
        }
        let is_stranger = |part: &&Id| index.parent(**part) != Some(self.gic);
        if let Some(&stranger) = gic_parts.iter().find(is_stranger) {
            let node = Path::new(index.node(stranger));
            return Err(Dom0Error::NotInGic { node, gic });
        }
        let refused = |id: &&Id| self.of(**id) != Fate::Assigned;
        match named.iter().find(refused) {
            None => Ok(()),
            Some(&id) => Err(Dom0Error::NotAssignable {
                node: Path::new(index.node(id)),
                what: "assigned to a guest",
                why: "the hypervisor keeps it or its kind for itself",
            }),
        }
    }

    fn lost_phandles(&self, index: &Index<'_>) -> BTreeSet<u32> {
        let dropped = index.ids().filter(|&id| self.of(id) == Fate::Dropped);
        dropped.filter_map(|id| index.node(id).phandle()).collect()
    }
}

fn resolve(dtb: &Dtb<'_>, index: &Index<'_>, place: &str, name: &str) -> Result<Id, TreeError> {
    let node = dtb.resolve(place, name)?;
    // The index holds every node of the tree.
    Ok(index.find(node).unwrap_or(index.root()))
}

/// What decides a node's fate.
struct Judge<'t, 'a> {
    index: &'t Index<'a>,
    interrupts: Interrupts<'t, 'a>,
    hidden: &'t [Id],
    assigned: &'t [Id],
    gic_parts: &'t [Id],
}

impl Judge<'_, '_> {
    /// The fate of each node. A parent's comes before its children's.
    fn all(&self) -> Vec<Fate> {
        let mut fates = vec![Fate::Kept; self.index.len()];
        for id in self.index.ids() {
            let parent = self.index.parent(id);
            let parent = parent.map_or(Fate::Kept, |parent| fates[parent.place()]);
            fates[id.place()] = self.fate(id, parent);
        }
        fates
    }

    fn fate(&self, id: Id, parent: Fate) -> Fate {
        let node = self.index.node(id);
        if parent == Fate::Dropped || self.hidden.contains(&id) {
            return Fate::Dropped;
        }
        if id == self.interrupts.gic {
            // In a node that is given away, it would go with it.
            return match parent {
                Fate::Kept => Fate::Gic,
                _ => Fate::Dropped,
            };
        }
        if parent == Fate::Gic {
            return match self.gic_parts.contains(&id) {
                true => Fate::Gic,
                false => Fate::Dropped,
            };
        }
        if self.is_dropped(id) {
            return Fate::Dropped;
        }
        let marked = node.property("xen,passthrough").is_some();
        if parent == Fate::Assigned || marked || self.assigned.contains(&id) {
            return Fate::Assigned;
        }
        Fate::Kept
    }

    fn is_dropped(&self, id: Id) -> bool {
        let node = self.index.node(id);
        let at_root = self.index.parent(id) == Some(self.index.root());
        at_root && (REPLACED.contains(&node.name()) || node.has_type("memory"))
            || is_gic(node)
            || is_iommu(node)
            || is_cpu_pmu(node)
            || node.is_compatible(DROPPED)
            || self.uses_ppi(id)
    }

    /// Whether the node has an interrupt that is private to a processor: these cannot be passed
    /// on to a virtual one.
    fn uses_ppi(&self, id: Id) -> bool {
        let mut interrupts = self.interrupts.of(id).into_iter();
        interrupts.any(|interrupt| matches!(interrupt.id, IntId::Ppi(_)))
    }
}
