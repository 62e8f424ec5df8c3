//! Cryptography as the rest needs it: sealing, signatures, keys, randomness. Every primitive is aws-lc's; nothing here
//! decides what a claim means or who may pass.

pub mod seal;
