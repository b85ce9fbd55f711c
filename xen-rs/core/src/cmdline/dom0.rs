//! What Dom0 is, and how large.

use super::value::{integer, size};

/// `dom0=`: a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dom0Option {
    /// `direct-map`, `no-direct-map`: Dom0 sees its RAM where it is.
    pub direct_map: bool,
}

impl Default for Dom0Option {
    fn default() -> Self {
        Self { direct_map: true }
    }
}

impl Dom0Option {
    pub(super) fn parse(value: &str) -> Result<Self, &'static str> {
        let mut option = Self::default();
        for part in value.split(',') {
            option.direct_map = match part {
                "direct-map" => true,
                "no-direct-map" => false,
                _ => return Err("use direct-map or no-direct-map"),
            };
        }
        Ok(option)
    }
}

/// `dom0_mem=`: a list of `<size>`, `min:<size>` and `max:<size>`. Sizes are in bytes and not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dom0Memory {
    /// What Dom0 gets.
    pub size: Option<u64>,
    /// What it gets at least; `max` counts where both do not fit together.
    pub min: Option<u64>,
    /// What it gets at most, at boot and later.
    pub max: Option<u64>,
}

impl Dom0Memory {
    pub(super) fn parse(value: &str) -> Result<Self, &'static str> {
        const REMEDY: &str = "use a size above 0 such as 512M or 2G, min: and max: before further \
                              ones, commas between them";
        let mut memory = Self::default();
        for part in value.split(',') {
            let (slot, text) = match part.split_once(':') {
                None => (&mut memory.size, part),
                Some(("min", text)) => (&mut memory.min, text),
                Some(("max", text)) => (&mut memory.max, text),
                Some(_) => return Err(REMEDY),
            };
            *slot = Some(size(text).filter(|size| *size > 0).ok_or(REMEDY)?);
        }
        Ok(memory)
    }
}

/// `dom0_max_vcpus=`: a number, or `<min>-<max>` of which one may be absent. At least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dom0Vcpus {
    min: u32,
    max: u32,
}

impl Dom0Vcpus {
    /// How many Dom0 has on a host with so many CPUs.
    pub fn count(self, host: u32) -> u32 {
        host.clamp(self.min, self.max)
    }

    pub(super) fn parse(value: &str) -> Result<Self, &'static str> {
        let limits = match value.split_once('-') {
            None => count(value).map(|count| (count, count)),
            Some(("", "")) => None,
            Some(("", max)) => count(max).map(|max| (1, max)),
            Some((min, "")) => count(min).map(|min| (min, u32::MAX)),
            Some((min, max)) => count(min).zip(count(max)),
        };
        let (min, max) = limits
            .filter(|(min, max)| min <= max)
            .ok_or("use a number above 0, or a range such as 2-4, 2- or -4")?;
        Ok(Self { min, max })
    }
}

fn count(text: &str) -> Option<u32> {
    let count = u32::try_from(integer(text)?).ok()?;
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dom0_is_direct_mapped_or_not() {
        let direct_map = |value| Dom0Option::parse(value).map(|option| option.direct_map);
        assert!(Dom0Option::default().direct_map);
        assert_eq!(direct_map("direct-map"), Ok(true));
        assert_eq!(direct_map("no-direct-map"), Ok(false));
        assert_eq!(direct_map("no-direct-map,direct-map"), Ok(true));
        for wrong in ["", "pvh", "direct-map=no", "no-direct-map,"] {
            assert!(direct_map(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_is_a_list_in_any_order() {
        let memory = Dom0Memory::parse("max:4G,512M,min:256m").unwrap();
        assert_eq!(memory.size, Some(512 << 20));
        assert_eq!(memory.min, Some(256 << 20));
        assert_eq!(memory.max, Some(4 << 30));
        let kib = Dom0Memory::parse("524288").unwrap();
        assert_eq!(kib.size, Some(512 << 20));
        assert_eq!((kib.min, kib.max), (None, None));
        for wrong in [
            "",
            "0",
            "512M,",
            "min:",
            "mid:1G",
            "1G max:2G",
            "50%",
            "min:max:1G",
        ] {
            assert!(Dom0Memory::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn vcpus_are_a_number_or_a_range() {
        let counts = |text| {
            let vcpus = Dom0Vcpus::parse(text).unwrap();
            [2, 4, 6, 8, 10].map(|host| vcpus.count(host))
        };
        // The table of Xen's documentation.
        assert_eq!(counts("4-8"), [4, 4, 6, 8, 8]);
        assert_eq!(counts("3"), [3; 5]);
        assert_eq!(counts("-4"), [2, 4, 4, 4, 4]);
        assert_eq!(counts("4-"), [4, 4, 6, 8, 10]);
        for wrong in [
            "",
            "0",
            "-",
            "4-2",
            "0-4",
            "-0",
            "1-2-3",
            "all",
            "4294967296",
        ] {
            assert!(Dom0Vcpus::parse(wrong).is_err(), "{wrong}");
        }
    }
}
