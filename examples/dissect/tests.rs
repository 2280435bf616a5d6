//! The whole program, from its arguments to its output.

use serde_json::Value;

use super::*;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dissect/samples/encapsulations.pcap");

/// What it prints with these arguments, and the exit status or the error.
fn dissect(arguments: &[&str]) -> (String, Result<u8, String>) {
    let arguments = ["dissect", "--time", "none"].iter().chain(arguments);
    let options = Options::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
    let interrupted = Arc::new(AtomicBool::new(false));
    let source = match open(&options, &interrupted) {
        Ok(source) => source.expect("there is a file to read"),
        Err(error) => return (String::new(), Err(format!("{error:#}"))),
    };
    let mut text = Vec::new();
    let ended = run(&options, source, &interrupted, &mut Out::new(&mut text, false));
    (String::from_utf8(text).unwrap(), ended.map_err(|error| format!("{error:#}")))
}

#[test]
fn a_line_per_packet_and_a_table() {
    let (text, ended) = dissect(&["--encapsulation", "gre,ipip", SAMPLE]);
    let expected = "\
IP 10.0.0.1 > 10.0.0.2: IP 10.0.0.1 > 10.0.0.2: ip-proto-99 3
IP 10.0.0.1 > 10.0.0.2: IP6 fd00::1 > fd00::2: ip-proto-99 3
IP6 fd00::1 > fd00::2: IP 10.0.0.1 > 10.0.0.2: ip-proto-99 3
IP6 fd00::1 > fd00::2: IP6 fd00::1 > fd00::2: ip-proto-99 3
IP6 fd00::1 > fd00::2: DSTOPT IP 10.0.0.1.1000 > 10.0.0.2.1001: UDP, length 4
IP 10.0.0.1 > 10.0.0.2: GREv0, length 56: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4
IP 10.0.0.1 > 10.0.0.2: GREv0, key=0x5, length 60: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4
IP 10.0.0.1 > 10.0.0.2: GREv0, off 0x0, key=0x1234, seq 6, length 68: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4
IP6 fd00::1 > fd00::2: GREv0, length 56: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4
IP6 fd00::1 > fd00::2: GREv0, key=0x5, length 60: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4
IP6 fd00::1 > fd00::2: GREv0, off 0x0, key=0x1234, seq 6, length 68: IP6 fd00::1.1000 > fd00::2.1001: UDP, length 4

";
    assert!(text.starts_with(expected), "{text}");
    let table = &text[expected.len()..];
    assert!(table.starts_with("encapsulation  outer                vni/key  packets  bytes"));
    let row = ["gre", "10.0.0.1", ">", "10.0.0.2", "5", "1", "80", "28", "35.0", "%"];
    assert!(table.lines().any(|line| line.split_whitespace().eq(row)), "{table}");
    assert!(table.ends_with(" packets, 11 shown\n"), "{table}");
    assert_eq!(ended, Ok(0));
}

#[test]
fn a_tree_per_packet() {
    let (text, ended) = dissect(&["--tree", "--vni", "2", "--count", "1", SAMPLE]);
    let expected = "
  Ethernet 0+14: 02:00:00:00:00:01 > 02:00:00:00:00:02, type IPv4
    IPv4 14+20: 10.0.0.1 > 10.0.0.2, protocol udp, ttl 64, id 0, DF, length 132, checksum 0x2667 (correct)
      UDP 34+8: 40000 > 4789, length 112, checksum none
        VXLAN 42+8: vni 2
          Ethernet 50+14: 02:00:00:00:00:01 > 02:00:00:00:00:02, type IPv4
            IPv4 64+20: 10.0.0.1 > 10.0.0.2, protocol udp, ttl 64, id 0, DF, length 82, checksum 0x2699 (correct)
              UDP 84+8: 40000 > 4789, length 62, checksum none
                VXLAN 92+8: vni 1
                  Ethernet 100+14: 02:00:00:00:00:01 > 02:00:00:00:00:02, type IPv4
                    IPv4 114+20: 10.0.0.1 > 10.0.0.2, protocol udp, ttl 64, id 0, DF, length 32, checksum 0x26cb (correct)
                      UDP 134+8: 1000 > 1001, length 12, checksum none
                        payload: 4 bytes from 142

";
    assert!(text.starts_with("packet ") && text.contains(expected), "{text}");
    assert_eq!(ended, Ok(0));
}

#[test]
fn json_lines_with_the_end_last() {
    let (text, ended) = dissect(&["--json", "--inner", "fd00::2", SAMPLE]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, packets) = lines.split_last().unwrap();
    assert!(
        !packets.is_empty()
            && packets.iter().all(|packet| {
                let tunnel = &packet["tunnel"];
                tunnel["inner_dst"] == "fd00::2" && tunnel["overhead_bytes"].as_u64() >= Some(20)
            })
    );
    assert_eq!((&end["ok"], &end["matched"]), (&true.into(), &packets.len().into()));
    let seen = end["seen"].as_array().unwrap();
    let counted: u64 = seen.iter().filter_map(|row| row["packets"].as_u64()).sum();
    assert_eq!(counted, packets.len() as u64);
    assert_eq!(ended, Ok(0));
    // Quiet, it is the end alone.
    let (text, _) = dissect(&["--json", "--quiet", "--inner", "fd00::2", SAMPLE]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *end);
}

#[test]
fn damaged_and_cut_packets_are_counted() {
    let (text, ended) = dissect(&["--quiet", SAMPLE]);
    assert!(text.ends_with(", 2 cut by the capture, 5 malformed\n"), "{text}");
    assert_eq!(ended, Ok(0));
}

#[test]
fn ports_are_mapped() {
    let vxlan = |arguments: &[&str]| {
        let (text, _) = dissect(&[arguments, &["--encapsulation", "vxlan", SAMPLE]].concat());
        [".4789: VXLAN", ".8472: VXLAN", ".6081: VXLAN"].map(|part| text.matches(part).count())
    };
    let [usual, linux, geneve] = vxlan(&[]);
    assert!(usual > 0 && linux > 0 && geneve == 0);
    // A port on the command line counts before the usual ones.
    assert_eq!(vxlan(&["--udp-port", "4789"]), [0, linux, 0]);
    let (text, _) = dissect(&["--vxlan-port", "6081", SAMPLE]);
    assert!(text.contains(".6081: [|vxlan] (VXLAN I flag: expected 1, found 0)"), "{text}");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let (text, ended) = dissect(&["/nonexistent"]);
    assert_eq!(text, "");
    let error = ended.unwrap_err();
    assert!(error.starts_with("cannot open /nonexistent: No such file"), "{error}");
    let (_, ended) = dissect(&[concat!(env!("CARGO_MANIFEST_DIR"), "/dissect/main.rs")]);
    assert!(ended.unwrap_err().ends_with("main.rs is neither a pcap nor a pcapng capture"));
    let (_, ended) = dissect(&[env!("CARGO_MANIFEST_DIR")]);
    assert!(ended.unwrap_err().contains("Is a directory"));
}

#[test]
fn the_arguments_are_consistent() {
    Options::command().debug_assert();
}

#[test]
fn packets_of_the_kernel_print_as_by_tcpdump() -> Result<(), String> {
    const KERNEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dissect/samples/two-node.pcap");
    // The port is Linux's, which tcpdump has to be told.
    let output = std::process::Command::new("tcpdump")
        .args(["-nn", "-t", "-S", "-T", "vxlan", "-r", KERNEL])
        .output();
    let Ok(output) = output else {
        return overlay_lab::cannot_run("reading two-node.pcap", "tcpdump", "no such program");
    };
    let theirs = String::from_utf8(output.stdout).unwrap();
    let (ours, ended) = dissect(&[KERNEL]);
    let (packets, _) = ours.split_once("\n\n").unwrap();
    assert_eq!(packets.replace("vni 1: ", "vni 1\n"), theirs.trim_end());
    assert_eq!((packets.lines().count(), ended), (24, Ok(0)));
    Ok(())
}
