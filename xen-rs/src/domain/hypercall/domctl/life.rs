//! The life of domains: made, paused, ended.

use log::Level;
use xen_abi::domctl::CreateDomain;
use xen_abi::{DomId, Errno};

use super::{Call, Outcome};
use crate::domain::guest::{self, Request};
use crate::domain::memory::write;
use crate::domain::table::Reserved;
use crate::domain::teardown::{self, Progress};

/// Makes a domain. Its id comes back in the envelope.
pub fn create(call: &Call<'_>) -> Outcome {
    let mut from: CreateDomain = call.payload()?;
    let request = Request::parse(&mut from)?;
    let asked = call.header.domain;
    let place = if asked == DomId::new(0) || !asked.is_domain() {
        Reserved::any()
    } else {
        Reserved::id(asked)
    };
    let domain = guest::create(&request, place.map_err(Errno::from)?)?;
    let mut header = call.header;
    header.domain = domain.id;
    domain.report(
        Level::Info,
        format_args!("{}: created with {} vCPU(s)", domain.id, domain.vcpus.len()),
    );
    let told = write(call.caller, call.buffer, &header).map_err(Errno::from);
    if told
        .and_then(|()| call.answer(&from).map_err(|_| Errno::Fault))
        .is_err()
    {
        // Nobody knows of it. It has nothing yet: this ends at once.
        domain.doom();
        while teardown::go_on(&domain) == Progress::Again {}
        return Err(Errno::Fault.into());
    }
    Ok(0)
}

/// Ends a domain: called again until it has nothing any more.
pub fn destroy(call: &Call<'_>) -> Outcome {
    let target = call.other()?;
    if target.doom() {
        target.report(Level::Info, format_args!("{}: destroyed", target.id));
    }
    match teardown::go_on(&target) {
        Progress::Done => Ok(0),
        Progress::Again => Err(call.again()),
    }
}

/// Pauses a domain, once more.
pub fn pause(call: &Call<'_>) -> Outcome {
    call.other()?.pause().map_err(Errno::from)?;
    Ok(0)
}

/// Takes one pause back.
pub fn unpause(call: &Call<'_>) -> Outcome {
    call.other()?.unpause().map_err(Errno::from)?;
    Ok(0)
}

/// A domain that was suspended goes on.
pub fn resume(call: &Call<'_>) -> Outcome {
    call.other()?.resume().map_err(Errno::from)?;
    Ok(0)
}
