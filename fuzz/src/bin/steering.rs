//! The libFuzzer binary of the target `steering`: decides nothing, hands its input on.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::targets::steering::run(data));
