//! Builds the part in C++ if Boost's headers are installed; without them the program leaves that row out.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed=src/boost/queue.cpp");
    println!("cargo::rerun-if-changed=src/boost/probe.cpp");
    for variable in ["CXX", "CXXFLAGS", "CPLUS_INCLUDE_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let compiler = || {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(3).warnings(false).cargo_warnings(false);
        build
    };
    // Tried apart, so that a mistake in queue.cpp does not pass for headers that are missing.
    if compiler().file("src/boost/probe.cpp").try_compile("probe").is_ok() {
        compiler().file("src/boost/queue.cpp").cargo_warnings(true).compile("hqq_boost_queue");
        println!("cargo::rustc-cfg=boost");
    }
}
