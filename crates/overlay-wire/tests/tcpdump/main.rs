//! What a dissected packet prints is what tcpdump prints.

mod packets;

use std::io::Write;
use std::process::{Command, Stdio};

use overlay_wire::dissect::{ChecksumState, Dissector, Kind, Start};

use crate::packets::{Case, cases};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

#[test]
fn a_packet_prints_as_by_tcpdump() -> Result {
    compare(&[], false)
}

#[test]
fn a_packet_prints_as_by_tcpdump_with_link_level() -> Result {
    compare(&["-e"], true)
}

#[test]
fn a_checksum_is_judged_as_by_tcpdump() -> Result {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        return Ok(overlay_lab::cannot_run("judging checksums", "tcpdump", "no such program")?);
    }
    let (mut correct, mut wrong) = (0, 0);
    for case in cases() {
        let packet = Dissector::new(case.start).dissect(&case.bytes);
        let checksums = packet.layers().filter_map(|layer| match layer.kind {
            Kind::Tcp(_) | Kind::Icmpv6(_) => layer.checksum(),
            _ => None,
        });
        for checksum in checksums {
            let theirs = tcpdump(&case, &["-vv"])?;
            let words = match checksum {
                ChecksumState::Correct(found) => {
                    correct += 1;
                    [format!("cksum {found:#06x} (correct)"), "[icmp6 sum ok]".to_owned()]
                }
                ChecksumState::Wrong { found, expected } => {
                    wrong += 1;
                    [
                        format!("cksum {found:#06x} (incorrect -> {expected:#06x})"),
                        format!("[bad icmp6 cksum {found:#06x} -> {expected:#06x}!]"),
                    ]
                }
                other => panic!("{other} in {}", case.name),
            };
            let agree = words.iter().any(|words| theirs.contains(words));
            assert!(agree, "{}: {theirs} is {checksum}", case.name);
        }
    }
    assert!(correct > 30 && wrong > 5, "{correct} {wrong}");
    Ok(())
}

#[test]
fn a_tree_names_what_is_special() {
    for (name, part) in [
        ("two VLANs", "VLAN 14+4: id 4094, priority 0, drop eligible, type 802.1Q\n"),
        (
            "an ARP reply",
            "ARP 14+28: operation Reply, sender 10.0.0.2 at 02:00:00:00:00:02, target",
        ),
        ("the first fragment", "ttl 64, id 0, more fragments, length 44"),
        ("the last fragment", "ttl 64, id 0, fragment at 24, length 36"),
        ("the encapsulation limit", "options 40+8: next ipip, tunnel encapsulation limit 4\n"),
        ("a router alert", "hop-by-hop options 40+8: next udp, option 5 of 2 bytes\n"),
        ("a route", "routing header 40+24: next udp, type 4, segments left 1\n"),
        ("the first fragment in IPv6", "id 0x00000007, fragment at 0, more fragments\n"),
        ("authentication", "authentication header 40+24: next udp, spi 0x00000001, seq 2\n"),
        ("SYN", "TCP 20+40: 40000 > 40001, flags [S], seq 4294967294, ack 305419896, window 502"),
        ("ICMP", "type 3, code 3, about IP 10.0.0.1.1000 > 10.0.0.2.9: UDP, length 4, checksum"),
        ("ICMPv6", "type 2, code 0, about IP6 fd00::1.1000 > fd00::2.9: UDP, length 4, checksum"),
        ("neighbour discovery", "type 135, code 0, target fd00::2 at 02:00:00:00:00:01, checksum"),
        ("GRE", "GRE 20+16: protocol TEB, key 0x1234, seq 6, checksum 0x"),
        ("Geneve", ", for the tunnel's end, critical options, option 0x0102/0x81 of 4 bytes\n"),
        ("VXLAN-GPE", "VXLAN-GPE 28+8: vni 4660, next IPv4, for the tunnel's end\n"),
        ("GUE", "GUE 28+4: protocol ipip\n"),
        ("VXLAN in VXLAN", "            VXLAN 78+8: vni 1\n"),
    ] {
        let trees: Vec<_> = cases()
            .iter()
            .filter(|case| case.name == name)
            .map(|case| format!("{:#}\n", Dissector::new(case.start).dissect(&case.bytes)))
            .collect();
        assert!(trees.iter().any(|tree| tree.contains(part)), "{part}: {}", trees.join("\n"));
    }
}

#[test]
fn a_damaged_packet_prints_something() {
    for case in cases() {
        let dissector = Dissector::new(case.start);
        for len in 0..case.bytes.len() {
            look_at(&dissector, &case.bytes[..len], case.length);
            look_at(&dissector, &case.bytes[..len], len);
        }
        for bit in 0..case.bytes.len() * 8 {
            let mut bytes = case.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            look_at(&dissector, &bytes, bytes.len());
        }
    }
}

/// Goes through everything there is to see, and checks that each layer lies behind the one that carries it.
fn look_at(dissector: &Dissector<'_>, bytes: &[u8], length: usize) {
    let packet = dissector.dissect_cut(bytes, length);
    let mut end = 0;
    for layer in packet.layers() {
        assert_eq!(layer.offset, end, "{bytes:02x?}");
        assert!(bytes[layer.offset..].starts_with(layer.bytes), "{bytes:02x?}");
        end = layer.offset + layer.header_len;
        assert!(layer.header_len <= layer.bytes.len(), "{bytes:02x?}");
    }
    if let Some(outermost) = packet.outermost() {
        assert!(outermost.outer_len <= length, "{bytes:02x?}");
        assert!(outermost.overhead() >= 20, "{bytes:02x?}");
    }
    assert!(length == 0 || !packet.to_string().is_empty(), "{bytes:02x?}");
    assert_eq!(format!("{packet:#}").lines().count(), packet.layers().count(), "{bytes:02x?}");
}

fn compare(options: &[&str], link_level: bool) -> Result {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        return Ok(overlay_lab::cannot_run("printing packets", "tcpdump", "no such program")?);
    }
    let mut different = Vec::new();
    for case in cases() {
        if link_level && case.start != Start::Ethernet {
            continue;
        }
        let theirs = tcpdump(&case, options)?;
        let dissector = Dissector::new(case.start).link_level(link_level);
        let ours = dissector.dissect_cut(&case.bytes, case.length).to_string();
        let expected = case.instead.map_or(theirs.as_str(), |ours| ours);
        if ours != expected {
            different.push(format!("{}\n  theirs: {theirs}\n  ours:   {ours}", case.name));
        }
    }
    assert!(different.is_empty(), "\n{}\n{} differ", different.join("\n"), different.len());
    Ok(())
}

/// What tcpdump prints, on one line: a line break is a colon, bytes are left out, and one space is enough.
fn tcpdump(case: &Case, options: &[&str]) -> Result<String> {
    let mut tcpdump = Command::new("tcpdump")
        .args(["-nn", "-t", "-S", "-r", "-"])
        .args(options)
        .args(case.options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = tcpdump.stdin.take().ok_or("no standard input")?;
    stdin.write_all(&pcap(case))?;
    drop(stdin);
    let output = tcpdump.wait_with_output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("0x"));
    let text = lines.map(|line| line.trim().trim_end_matches(':')).collect::<Vec<_>>().join(": ");
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A pcap file with one packet.
fn pcap(case: &Case) -> Vec<u8> {
    let link_type = match case.start {
        Start::Ethernet => 1,
        _ => 101,
    };
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link_type];
    let packet = [0, 0, case.bytes.len() as u32, case.length as u32];
    let words = header.iter().chain(&packet).flat_map(|word: &u32| word.to_le_bytes());
    words.chain(case.bytes.iter().copied()).collect()
}
