//! Error numbers (`errno.h`): Linux's.

use core::fmt;

numbers! {
    /// Why a hypercall failed (`XEN_E…`). The caller sees the negative number.
    pub enum Errno: u16 {
        /// `EPERM`: the caller may not do this.
        NotPermitted = 1,
        /// `ENOENT`: there is no such thing.
        NoEntry = 2,
        /// `ESRCH`: there is no such domain.
        NoDomain = 3,
        /// `EIO`: the hardware failed.
        Io = 5,
        /// `ENXIO`: an address is out of range or badly aligned.
        NoAddress = 6,
        /// `E2BIG`: a list is too long.
        TooBig = 7,
        /// `EAGAIN`: not now.
        Again = 11,
        /// `ENOMEM`: no memory left.
        NoMemory = 12,
        /// `EACCES`: a version or an access right does not match.
        Access = 13,
        /// `EFAULT`: a pointer does not lead to memory of the caller.
        Fault = 14,
        /// `EBUSY`: in use.
        Busy = 16,
        /// `EEXIST`: there already.
        Exists = 17,
        /// `EXDEV`: belongs elsewhere.
        CrossDevice = 18,
        /// `ENODEV`: there is no such device.
        NoDevice = 19,
        /// `EINVAL`: an argument makes no sense.
        Invalid = 22,
        /// `ENOSPC`: all places are taken.
        NoSpace = 28,
        /// `ERANGE`: a number is out of range.
        Range = 34,
        /// `ENOSYS`: no such call.
        NoCall = 38,
        /// `ENODATA`: nothing to be read.
        NoData = 61,
        /// `EOVERFLOW`: a number does not fit.
        Overflow = 75,
        /// `EOPNOTSUPP`: the call exists and is not supported here.
        NotSupported = 95,
        /// `ENOBUFS`: a buffer is too short.
        NoBuffers = 105,
        /// `ETIMEDOUT`: it took too long.
        TimedOut = 110,
    }
}

impl Errno {
    /// The C name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotPermitted => "EPERM",
            Self::NoEntry => "ENOENT",
            Self::NoDomain => "ESRCH",
            Self::Io => "EIO",
            Self::NoAddress => "ENXIO",
            Self::TooBig => "E2BIG",
            Self::Again => "EAGAIN",
            Self::NoMemory => "ENOMEM",
            Self::Access => "EACCES",
            Self::Fault => "EFAULT",
            Self::Busy => "EBUSY",
            Self::Exists => "EEXIST",
            Self::CrossDevice => "EXDEV",
            Self::NoDevice => "ENODEV",
            Self::Invalid => "EINVAL",
            Self::NoSpace => "ENOSPC",
            Self::Range => "ERANGE",
            Self::NoCall => "ENOSYS",
            Self::NoData => "ENODATA",
            Self::Overflow => "EOVERFLOW",
            Self::NotSupported => "EOPNOTSUPP",
            Self::NoBuffers => "ENOBUFS",
            Self::TimedOut => "ETIMEDOUT",
        }
    }

    /// What a hypercall that failed with it returns in x0.
    pub const fn to_return_value(self) -> i64 {
        -(self.number() as i64)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_returned_as_negative_numbers() {
        assert_eq!(Errno::NoCall.to_return_value(), -38);
        assert_eq!(Errno::NotPermitted.to_return_value(), -1);
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_number(errno.number()), Some(errno));
        }
        assert_eq!(Errno::from_number(0), None);
    }
}
