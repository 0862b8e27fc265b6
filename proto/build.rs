//! Compiles the messages with protox, in pure Rust: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["logs.proto", "raft.proto", "worker.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    // Sorted maps: the same message is the same bytes each time.
    let build = tonic_prost_build::configure().bytes(".").btree_map(".");
    // An order may hold secrets: `lib.rs` says what is shown of one.
    let build = build.skip_debug(["horai.worker.v1.Start"]);
    build.compile_fds(descriptors)?;
    Ok(())
}
