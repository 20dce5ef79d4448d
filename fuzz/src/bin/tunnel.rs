//! The libFuzzer binary of the target `tunnel`: decides nothing, hands its input on.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_fuzz::targets::tunnel::run(data));
