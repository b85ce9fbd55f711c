//! What is wanted of IOMMUs.

use super::value::boolean;

/// `iommu=`: a list of a boolean and of Xen's sub-options, each of which `no-` before it or `=no`
/// behind it negates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IommuOption {
    /// Whether IOMMUs are used; without them devices reach all memory.
    pub enabled: bool,
    /// `force`, `required`: there is no start unless every IOMMU isolates, and there is one.
    pub required: bool,
    /// `verbose`, and `debug`, which here is the same: who is attached is logged.
    pub verbose: bool,
}

impl Default for IommuOption {
    fn default() -> Self {
        Self {
            enabled: true,
            required: false,
            verbose: false,
        }
    }
}

/// Sub-options that change nothing here: Arm's, which always share tables and always keep devices that
/// nobody has from reaching anything, and those of other IOMMUs.
const WITHOUT_EFFECT: [&str; 12] = [
    "quarantine",
    "sharept",
    "superpages",
    "intremap",
    "intpost",
    "crash-disable",
    "snoop",
    "qinval",
    "igfx",
    "amd-iommu-perdev-intremap",
    "dom0-passthrough",
    "dom0-strict",
];

impl IommuOption {
    /// Takes a list over; `ignored` is told of the sub-options that change nothing.
    pub(super) fn apply<'a>(
        &mut self,
        value: &'a str,
        mut ignored: impl FnMut(&'a str),
    ) -> Result<(), &'static str> {
        for part in value.split(',') {
            if let Ok(enabled) = boolean(part) {
                self.enabled = enabled;
                continue;
            }
            let (name, on) = sub_option(part)?;
            match name {
                "force" | "required" => self.required = on,
                "verbose" | "debug" => self.verbose = on,
                name if WITHOUT_EFFECT.contains(&name) => ignored(part),
                _ => return Err(REMEDY),
            }
        }
        if self.required && !self.enabled {
            return Err("it cannot be off and required");
        }
        Ok(())
    }
}

const REMEDY: &str = "use yes or no, verbose, debug, force or required, commas between them";

/// A sub-option's name, and whether it is meant.
fn sub_option(part: &str) -> Result<(&str, bool), &'static str> {
    if let Some(name) = part.strip_prefix("no-") {
        return Ok((name, false));
    }
    match part.split_once('=') {
        // The one value that is no boolean.
        Some((name @ "quarantine", "scratch-page")) => Ok((name, true)),
        Some((name, value)) => Ok((name, boolean(value).map_err(|_| REMEDY)?)),
        None => Ok((part, true)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn parse(value: &str) -> Result<IommuOption, &'static str> {
        let mut option = IommuOption::default();
        option.apply(value, |_| ()).map(|()| option)
    }

    #[test]
    fn a_list_is_read_in_order() {
        let default = IommuOption::default();
        assert_eq!(parse(""), Ok(default));
        assert_eq!(parse("yes,no,on"), Ok(default));
        for off in [
            "no",
            "off",
            "0",
            "false",
            "disable",
            "verbose,no-verbose,no",
        ] {
            let enabled = false;
            assert_eq!(parse(off), Ok(IommuOption { enabled, ..default }), "{off}");
        }
        for required in ["force", "required", "1,required=yes", "no-force,force"] {
            let option = parse(required).unwrap();
            assert!(option.required && option.enabled, "{required}");
        }
        for verbose in ["verbose", "debug", "verbose=1,no-required"] {
            let verbose = parse(verbose).unwrap();
            assert!(verbose.verbose && !verbose.required);
        }
    }

    #[test]
    fn what_changes_nothing_is_told() {
        let mut ignored = Vec::new();
        let mut option = IommuOption::default();
        let value = "no-sharept,verbose,quarantine=scratch-page,snoop=no";
        option.apply(value, |part| ignored.push(part)).unwrap();
        assert_eq!(
            ignored,
            ["no-sharept", "quarantine=scratch-page", "snoop=no"]
        );
        assert!(option.verbose && option.enabled);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            "maybe",
            "verbose=2",
            "verbos",
            "no-no",
            "snoop=scratch-page",
            "yes;no",
        ] {
            assert_eq!(parse(wrong), Err(REMEDY), "{wrong}");
        }
        assert_eq!(parse("no,required"), Err("it cannot be off and required"));
    }
}
