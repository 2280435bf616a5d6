fn main() {
    overlay_lab::vm::init_if_asked(&[]);
    let start = std::time::Instant::now();
    let vm = overlay_lab::vm::Vm::boot(overlay_lab::vm::VmOptions::new("vm1").modules(["ipip"]));
    match vm {
        Ok(vm) => println!("{} {:?}", vm.kernel_release(), start.elapsed()),
        Err(error) => println!("{error}"),
    }
}
