//! Bytes from the network are a specification that is checked, and computed if it passes; or they are refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mycelium_proto::v1;
use mycelium_values::vector::check_nodes;
use mycelium_values_fuzz::compute;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = v1::JobSpec::decode(bytes) else { return };
    let is_sound = check_nodes(&spec.nodes).is_ok();
    // What the check refuses is never computed by a broker; it must do no harm all the same.
    compute(&spec.nodes, is_sound);
});
