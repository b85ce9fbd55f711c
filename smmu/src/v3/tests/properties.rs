//! Random lives of devices and domains, compared with a map of who may reach what.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xen_types::GpaRange;

use super::*;
use crate::simulated::Pace;

const DOMAINS: usize = 3;
const STREAMS: [u32; 4] = [0, 0x3f, 0x40, 0xffff];
const PAGES: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    Attach(usize, usize),
    Detach(usize),
    Map(usize, u64),
    Unmap(usize, u64),
    UnmapTable(usize),
    Dma(usize, u64),
    Pace(u32),
    Service,
}

fn step() -> impl Strategy<Value = Step> {
    let (domain, stream, page) = (0..DOMAINS, 0..STREAMS.len(), 0..PAGES);
    prop_oneof![
        2 => (stream.clone(), domain.clone()).prop_map(|(s, d)| Step::Attach(s, d)),
        1 => stream.clone().prop_map(Step::Detach),
        4 => (domain.clone(), page.clone()).prop_map(|(d, p)| Step::Map(d, p)),
        2 => (domain.clone(), page.clone()).prop_map(|(d, p)| Step::Unmap(d, p)),
        1 => domain.prop_map(Step::UnmapTable),
        8 => (stream, page).prop_map(|(s, p)| Step::Dma(s, p)),
        1 => (0_u32..4).prop_map(Step::Pace),
        1 => Just(Step::Service),
    ]
}

/// The driver and what should come of it.
struct Life {
    machine: Machine,
    smmu: Smmu<Machine>,
    domains: Vec<Domain>,
    mapped: Vec<BTreeMap<u64, Hpa>>,
    owners: [Option<usize>; STREAMS.len()],
}

impl Life {
    fn new(ids: Ids) -> Self {
        let (machine, smmu) = start(ids);
        let domains = (0..DOMAINS).map(|index| Domain::new(&machine, index as u16 + 1));
        Self {
            domains: domains.collect(),
            mapped: std::vec![BTreeMap::new(); DOMAINS],
            owners: [None; STREAMS.len()],
            machine,
            smmu,
        }
    }

    fn stream(&self, index: usize) -> StreamId {
        StreamId::new(STREAMS[index] & ((1 << self.smmu.stream_bits()) - 1))
    }

    fn forget(&mut self, domain: usize, first: u64, pages: u64) {
        let range = GpaRange::new(Gpa::new(first << 12), pages << 12).unwrap();
        let vmid = self.domains[domain].vmid();
        self.smmu
            .invalidate(vmid, Invalidation::Range(range))
            .unwrap();
        self.smmu.sync().unwrap();
    }

    fn unmap(&mut self, domain: usize, page: u64) {
        if let Some(frame) = self.mapped[domain].remove(&page) {
            self.domains[domain].tables.unmap(Gpa::new(page << 12), 3);
            self.forget(domain, page, 1);
            self.machine.free(frame, PAGE_SIZE);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Attach(stream, domain) => {
                let stage2 = self.domains[domain].stage2();
                self.smmu.attach(self.stream(stream), stage2).unwrap();
                self.owners[stream] = Some(domain);
            }
            Step::Detach(stream) => {
                self.smmu.detach(self.stream(stream)).unwrap();
                self.owners[stream] = None;
            }
            Step::Map(domain, page) => {
                if !self.mapped[domain].contains_key(&page) {
                    let frame = self.domains[domain].map(page << 12);
                    self.mapped[domain].insert(page, frame);
                }
            }
            Step::Unmap(domain, page) => self.unmap(domain, page),
            Step::UnmapTable(domain) => {
                let any = !self.mapped[domain].is_empty();
                (0..PAGES).for_each(|page| self.unmap(domain, page));
                if any {
                    let table = self.domains[domain].tables.unmap(Gpa::new(0), 2);
                    self.forget(domain, 0, PAGES);
                    self.machine.free(table, PAGE_SIZE);
                }
            }
            Step::Dma(stream, page) => {
                let mapped = self.owners[stream].and_then(|owner| self.mapped[owner].get(&page));
                let found = write(&self.machine, self.stream(stream), page << 12);
                assert_eq!(found.ok(), mapped.copied());
            }
            Step::Pace(0) => self.machine.set_pace(Pace::Immediate),
            Step::Pace(count) => self.machine.set_pace(Pace::PerLook(count)),
            Step::Service => assert!(!self.smmu.service().failed),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_device_reaches_what_its_owner_maps_and_nothing_else(
        kind in 0_usize..7,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (_, ids) = super::start::kinds()[kind];
        let mut life = Life::new(ids);
        for step in steps {
            life.take(step);
        }
        nothing_forbidden(&life.machine);
    }
}
