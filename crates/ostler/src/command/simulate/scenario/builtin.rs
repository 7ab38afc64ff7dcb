//! The scenarios that come with the binary; `--print-scenario` shows them as a start for one's own.

/// A scenario that needs no file.
#[derive(Debug)]
pub struct Builtin {
    pub name: &'static str,
    pub text: &'static str,
}

pub const BUILTINS: [Builtin; 5] = [
    Builtin { name: "idle", text: include_str!("builtin/idle.toml") },
    Builtin { name: "lock", text: include_str!("builtin/lock.toml") },
    Builtin { name: "reboot", text: include_str!("builtin/reboot.toml") },
    Builtin { name: "firmware", text: include_str!("builtin/firmware.toml") },
    Builtin { name: "chaos", text: include_str!("builtin/chaos.toml") },
];

impl Builtin {
    pub fn named(name: &str) -> Option<&'static Builtin> {
        BUILTINS.iter().find(|builtin| builtin.name == name)
    }
}
