//! No state of an entry that the SMMU could see gives its stream to anyone else.

use super::*;

/// Where a stream is: nowhere yet, detached, or with one of the domains.
fn bring(smmu: &mut Smmu<Machine>, domains: &[Domain], place: Option<usize>) {
    match place {
        Some(index) => smmu.attach(NIC, domains[index].stage2()).unwrap(),
        None => smmu.detach(NIC).unwrap(),
    }
}

#[test]
fn xsa_347_every_mixture_of_words_is_safe() {
    for ids in [Ids::default(), Ids::default().incoherent().linear(8)] {
        let places = [None, Some(0), Some(1), Some(2)];
        let pairs = places.map(|from| places.map(|to| (from, to)));
        for (from, to) in pairs.into_iter().flatten() {
            let (machine, mut smmu) = start(ids);
            let domains: Vec<_> = (1..4).map(|vmid| Domain::new(&machine, vmid)).collect();
            bring(&mut smmu, &domains, from);
            // Faults and accesses leave copies in the SMMU.
            let _ = write(&machine, NIC, 0x1000);
            let allowed: Vec<_> = [from, to]
                .into_iter()
                .flatten()
                .map(|index| Machine::translation_of(domains[index].stage2()))
                .collect();
            machine.on_write(move |observed| {
                for found in observed.possible_translations(NIC) {
                    assert!(
                        allowed.contains(&found),
                        "{found:?} while {from:?} to {to:?}"
                    );
                }
            });
            bring(&mut smmu, &domains, to);
            nothing_forbidden(&machine);
        }
    }
}

#[test]
fn xsa_400_between_two_domains_there_is_nothing() {
    let (machine, mut smmu) = start(Ids::default());
    let [mut first, mut second] = [1, 2].map(|vmid| Domain::new(&machine, vmid));
    first.map(0x1000);
    second.map(0x1000);
    smmu.attach(NIC, first.stage2()).unwrap();
    let (former, later) = (first.stage2(), second.stage2());
    machine.on_write(move |observed| {
        // Never both at once.
        let found = observed.possible_translations(NIC);
        let has = |stage2| found.contains(&Machine::translation_of(stage2));
        assert!(!(has(former) && has(later)));
    });
    smmu.attach(NIC, second.stage2()).unwrap();
}
