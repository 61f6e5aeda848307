//! Every graph that passes the check is computed within its limits, and gives JSON or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mycelium_values::vector::check_nodes;
use mycelium_values_fuzz::{Recipe, compute};

fuzz_target!(|bytes: &[u8]| {
    let nodes = Recipe::new(bytes).graph();
    assert!(check_nodes(&nodes).is_ok(), "the recipe makes sound graphs: {nodes:?}");
    compute(&nodes, true);
});
