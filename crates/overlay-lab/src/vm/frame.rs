//! What is said between a machine and the program that runs it: frames of a kind, the number of a request, and bytes.

use std::io::{self, Read, Write};

/// The largest contents of a frame.
pub(super) const LARGEST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// From the machine: it is ready. The kernel's release.
    Ready,
    /// To the machine: run a program. A [`Job`].
    Run,
    /// What the program wrote.
    Stdout,
    /// What the program wrote.
    Stderr,
    /// How it ended: the status of wait(2), 4 bytes.
    Exit,
    /// It was killed for its time was over.
    TimedOut,
    /// It could not be started. Why, as text.
    NotStarted,
}

const KINDS: [Kind; 7] = [
    Kind::Ready,
    Kind::Run,
    Kind::Stdout,
    Kind::Stderr,
    Kind::Exit,
    Kind::TimedOut,
    Kind::NotStarted,
];

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) request: u32,
    pub(super) contents: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: Kind, request: u32, contents: impl Into<Vec<u8>>) -> Self {
        Self { kind, request, contents: contents.into() }
    }

    pub(super) fn write(&self, mut writer: impl Write) -> io::Result<()> {
        let length = u32::try_from(self.contents.len()).ok();
        let length = length.filter(|length| *length as usize <= LARGEST);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(&self.request.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.contents);
        writer.write_all(&bytes)
    }

    pub(super) fn read(mut reader: impl Read) -> io::Result<Self> {
        let [mut kind, mut request, mut length] = [[0; 1].to_vec(), vec![0; 4], vec![0; 4]];
        for field in [&mut kind, &mut request, &mut length] {
            reader.read_exact(field)?;
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |n, b| n << 8 | u32::from(*b));
        let kind = KINDS.into_iter().find(|known| [*known as u8] == kind[..]);
        let length = number(&length) as usize;
        let (Some(kind), true) = (kind, length <= LARGEST) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame"));
        };
        let mut contents = vec![0; length];
        reader.read_exact(&mut contents)?;
        Ok(Self { kind, request: number(&request), contents })
    }
}

/// A program to run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Job {
    pub(super) milliseconds: u64,
    pub(super) program: Vec<u8>,
    pub(super) arguments: Vec<Vec<u8>>,
    /// Name and value.
    pub(super) environment: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Job {
    /// A list of strings, each behind its length: time, program, number of arguments, arguments, environment.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |string: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(string);
        };
        put(self.milliseconds.to_string().as_bytes());
        put(&self.program);
        put(self.arguments.len().to_string().as_bytes());
        self.arguments.iter().for_each(|argument| put(argument));
        for (name, value) in &self.environment {
            put(name);
            put(value);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut strings = strings(bytes)?.into_iter();
        let milliseconds = std::str::from_utf8(&strings.next()?).ok()?.parse().ok()?;
        let program = strings.next()?;
        let count: usize = std::str::from_utf8(&strings.next()?).ok()?.parse().ok()?;
        let arguments: Vec<_> = strings.by_ref().take(count).collect();
        let mut environment = Vec::new();
        while let Some(name) = strings.next() {
            environment.push((name, strings.next()?));
        }
        (arguments.len() == count).then_some(Self { milliseconds, program, arguments, environment })
    }
}

fn strings(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        strings.push(string.to_vec());
        bytes = rest;
    }
    bytes.is_empty().then_some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut bytes = Vec::new();
        let frames: Vec<_> =
            KINDS.iter().zip(7..).map(|(kind, id)| Frame::new(*kind, id << 20, "text")).collect();
        frames.iter().for_each(|frame| frame.write(&mut bytes).unwrap());
        let mut reader = &bytes[..];
        for frame in &frames {
            assert_eq!(Frame::read(&mut reader).unwrap(), *frame);
        }
        assert_eq!(Frame::read(&mut reader).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_frame_is_refused_before_memory_is_taken_for_it() {
        for bytes in [[0, 0, 0, 0, 0, 255, 255, 255, 255], [99, 0, 0, 0, 0, 0, 0, 0, 0]] {
            let error = Frame::read(&bytes[..]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let large = Frame::new(Kind::Run, 1, vec![0; LARGEST + 1]);
        assert!(large.write(io::sink()).is_err());
    }

    #[test]
    fn jobs_come_out_as_they_went_in_and_no_part_of_one_does() {
        let job = Job {
            milliseconds: 1500,
            program: b"/bin/ip".to_vec(),
            arguments: vec![b"-d".to_vec(), Vec::new(), vec![0xff, b'\n']],
            environment: vec![(b"A".to_vec(), b"b".to_vec()), (b"C".to_vec(), Vec::new())],
        };
        let bytes = job.encode();
        assert_eq!(Job::decode(&bytes).as_ref(), Some(&job));
        for length in 0..bytes.len() {
            assert_ne!(Job::decode(&bytes[..length]).as_ref(), Some(&job), "{length}");
        }
    }
}
