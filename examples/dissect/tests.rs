//! The whole program, from its arguments to its output.

use serde_json::Value;

use super::*;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dissect/samples/encapsulations.pcap");

/// What it prints with these arguments, and the exit status or the error.
fn dissect(arguments: &[&str]) -> (String, Result<u8, String>) {
    let time: &[_] = if arguments.contains(&"--json") { &[] } else { &["--time", "none"] };
    let arguments = [&["dissect"], time, arguments].concat();
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
    let has = |row: &str| table.lines().any(|line| line.split_whitespace().eq(row.split(' ')));
    assert!(has("gre 10.0.0.1 > 10.0.0.2 5 1 80 28 35.0 %"), "{table}");
    assert!(has("total - - 11 880 404 45.9 %"), "{table}");
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
    assert_eq!(end["total"]["packets"], counted);
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
fn json_has_every_digit_of_a_time_and_the_reason_of_every_fault() {
    let (text, _) = dissect(&["--json", SAMPLE]);
    let mut malformed = 0;
    for line in text.lines() {
        let packet: Value = serde_json::from_str(line).unwrap();
        let Some(time) = packet["time"].as_str() else {
            assert_eq!(packet["malformed"], malformed);
            continue;
        };
        let (seconds, nanos) = time.split_once('.').unwrap();
        assert!(seconds.parse::<u64>().is_ok() && nanos.len() == 9, "{time}");
        if packet["malformed"] == true {
            malformed += 1;
            assert!(packet["error"].is_string(), "{line}");
        }
    }
    assert_eq!(malformed, 5);
}

#[test]
fn interfaces_that_are_not_supported_are_skipped() {
    // A packet on interface 0 or 1; the first has no supported link type, the second is IP.
    let capture = |link_types: [u8; 2], packets: &[u8]| {
        let block = |kind: u8, body: &[u8]| {
            let length = (body.len() as u32 + 12).to_le_bytes();
            [&[kind, 0, 0, 0], &length[..], body, &length].concat()
        };
        let header = b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0";
        let mut bytes = header.to_vec();
        for link_type in link_types {
            bytes.extend(block(1, &[link_type, 0, 0, 0, 0, 0, 0, 0]));
        }
        let ip = b"\x45\0\0\x14\0\0\0\0\x40\xfd\0\0\x0a\0\0\x01\x0a\0\0\x02";
        for interface in packets {
            let head = [*interface, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 20, 0, 0, 0];
            bytes.extend(block(6, &[&head[..], ip].concat()));
        }
        bytes
    };
    let file = std::env::temp_dir().join(format!("dissect-{}.pcapng", std::process::id()));
    let look = |options: &[&str], bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let found = dissect(&[options, &[file.to_str().unwrap()]].concat());
        std::fs::remove_file(&file).unwrap();
        found
    };
    let mixed = capture([105, 101], &[1, 0, 1, 0, 0]);
    let (text, ended) = look(&[], &mixed);
    assert_eq!(text.matches("IP 10.0.0.1 > 10.0.0.2: ip-proto-253 0\n").count(), 2, "{text}");
    assert!(text.ends_with("\n5 packets, 2 shown, 3 skipped\n"), "{text}");
    let error = ended.unwrap_err();
    let why = "3 of 5 packets skipped: packet 2: link type 105 is not supported; these are: ";
    assert!(error.starts_with(why), "{error}");

    let (text, ended) = look(&["--json", "--quiet"], &mixed);
    let end: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&end["ok"], &end["skipped"], &end["matched"]),
        (&false.into(), &3.into(), &2.into())
    );
    assert!(ended.is_err());

    // Nobody's packets.
    assert_eq!(look(&["--quiet"], &capture([105, 101], &[1, 1])).1, Ok(0));
    let (_, ended) = look(&["--quiet"], &capture([105, 105], &[0, 1]));
    let error = ended.unwrap_err();
    assert!(error.starts_with("2 of 2 packets skipped: packet 1: link type 105"), "{error}");

    // The other format has one link type for all.
    let mut bytes = std::fs::read(SAMPLE).unwrap();
    bytes[20] = 105;
    let (text, ended) = look(&["--quiet"], &bytes);
    assert_eq!(text, "1 packet, 0 shown\n");
    assert!(ended.unwrap_err().starts_with("packet 1: link type 105 is not supported"));
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
    assert_eq!(vxlan(&["--ip-in-udp-port", "4789"]), [0, linux, 0]);
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
    let help = Options::command().render_help().to_string();
    assert!(help.contains("direct, ip-in-ip, gre, ip-in-udp, "), "{help}");
    let error = |arguments: &[&str]| {
        let options = Options::try_parse_from([&["dissect"], arguments].concat());
        options.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(&["--json", "--time", "utc"]).contains("cannot be used with"));
    assert!(error(&["--encapsulation", "vxlam"]).contains("a similar value exists: 'vxlan'"));
    assert!(error(&["--inner", "10.0.0.1/40"]).contains("expected a prefix length from 0 to 32"));
    assert_eq!(error(&["--json", "--encapsulation", "ipip", "--vni", "0x1234,7"]), "");
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
