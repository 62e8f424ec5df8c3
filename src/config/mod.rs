//! Configuration: from files, environment and flags to `Settings`. Never used after start-up except through `Settings`.

pub mod settings;
