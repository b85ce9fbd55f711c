//! PCI functions that the control domain does not get: `assignable=` of the hypervisor, and
//! `xen-pciback.hide=` or `pciback.hide=` of the control domain's kernel, which means the same.

use core::fmt;

use pci_host::HostSbdf;

/// Functions by name, `[SSSS:]BB:DD.F` each, with commas between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionList<'a>(&'a str);

impl<'a> FunctionList<'a> {
    /// Reads a list, of which every name must be one.
    pub(super) fn parse(value: &'a str) -> Result<Self, &'static str> {
        let mut names = value.split(',');
        if names.any(|name| name.parse::<HostSbdf>().is_err()) {
            return Err("use PCI addresses with commas between them, as in 0000:01:00.0,02:00.1");
        }
        Ok(Self(value))
    }

    /// The functions.
    pub fn iter(self) -> impl Iterator<Item = HostSbdf> + use<'a> {
        self.0.split(',').filter_map(|name| name.parse().ok())
    }
}

/// Keys of the control domain's kernel, whose driver has either name.
const KEYS: [&str; 2] = ["xen-pciback.hide=", "pciback.hide="];

/// A word that names no functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHidden<'a>(&'a str);

impl fmt::Display for NotHidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(word) = self;
        write!(
            f,
            "{word:?}: use PCI addresses in parentheses, as in (0000:01:00.0)(02:00.1)"
        )
    }
}

/// The functions that the control domain's command line hides from it, or what is wrong with a word.
pub fn hidden_by_pciback(line: &str) -> impl Iterator<Item = Result<HostSbdf, NotHidden<'_>>> {
    let words = line.split_ascii_whitespace();
    let lists = words.filter_map(|word| {
        let list = KEYS.iter().find_map(|key| word.strip_prefix(key));
        list.map(|list| (word, list))
    });
    lists.flat_map(|(word, list)| {
        let (names, rest) = match list
            .strip_prefix('(')
            .and_then(|list| list.strip_suffix(')'))
        {
            Some(names) => (names, None),
            None => ("", Some(Err(NotHidden(word)))),
        };
        let names = names.split(")(").filter(|name| !name.is_empty());
        let names = names.map(move |name| name.parse().map_err(|_| NotHidden(word)));
        names.chain(rest)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    fn hidden(line: &str) -> Vec<Result<String, String>> {
        let all = hidden_by_pciback(line);
        all.map(|one| {
            one.map(|name| name.to_string())
                .map_err(|error| error.to_string())
        })
        .collect()
    }

    #[test]
    fn a_list_has_names_with_commas() {
        let list = FunctionList::parse("0000:01:00.0,2:1f.7").unwrap();
        let names: Vec<String> = list.iter().map(|name| name.to_string()).collect();
        assert_eq!(names, ["0000:01:00.0", "0000:02:1f.7"]);
        for wrong in ["", "01:00.0,", "01:00.8", "all", "01:00.0 ", "(01:00.0)"] {
            assert!(FunctionList::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_kernels_own_list_is_read() {
        let line =
            "console=hvc0 xen-pciback.hide=(01:00.0)(0001:02:00.1) quiet pciback.hide=(03:00.0)";
        let names = ["0000:01:00.0", "0001:02:00.1", "0000:03:00.0"];
        assert_eq!(hidden(line), names.map(|name| Ok(name.to_string())));
        assert!(hidden("console=hvc0 pciback.hide xen-pciback.hidden=1").is_empty());
    }

    #[test]
    fn what_is_no_list_is_said() {
        for wrong in [
            "pciback.hide=01:00.0",
            "pciback.hide=(01:00.0",
            "pciback.hide=(*)",
        ] {
            let all = hidden(wrong);
            assert!(all.iter().any(Result::is_err), "{wrong}: {all:?}");
        }
    }
}
