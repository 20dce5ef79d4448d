//! Makes the gRPC contract's types out of `proto/state.proto`. Needs protoc (Debian: protobuf-compiler).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure().compile_protos(&["proto/state.proto"], &["proto"])?;
    Ok(())
}
