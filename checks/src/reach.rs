//! What compiled functions can reach.
//!
//! A relocation in the code of a function is something that it calls, reads or knows the address of. Following them from
//! one function finds everything that it could ever get to; what is not found cannot happen. More may be found than can
//! happen: a function whose address is taken counts as called.

use std::collections::{BTreeSet, HashMap, VecDeque};

use object::read::archive::ArchiveFile;
use object::{File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex};

/// What a static library consists of: sections, each of a function or a piece of data, and what they refer to.
#[derive(Debug)]
pub struct Graph {
    /// By section, what it refers to.
    references: Vec<Vec<Reference>>,
    /// By symbol, the section that defines it.
    definitions: HashMap<String, usize>,
    /// By section, a symbol in it.
    names: Vec<String>,
}

#[derive(Debug)]
enum Reference {
    Section(usize),
    Symbol(String),
}

/// What can be reached from a function.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reach {
    /// The shortest way to a panic: the names of the functions on it.
    pub panic: Option<Vec<String>>,
    /// The names of everything, as they are mangled.
    pub names: BTreeSet<String>,
    /// What would have to come from another library.
    pub missing: BTreeSet<String>,
}

impl Graph {
    /// The graph of a static library, an archive of ELF objects.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn of_archive(bytes: &[u8]) -> Result<Self, String> {
        let archive = ArchiveFile::parse(bytes).map_err(|error| format!("archive: {error}"))?;
        let mut graph =
            Self { references: Vec::new(), definitions: HashMap::new(), names: Vec::new() };
        for member in archive.members() {
            let member = member.map_err(|error| format!("archive: {error}"))?;
            let name = String::from_utf8_lossy(member.name()).into_owned();
            let failed = |error| format!("{name}: {error}");
            let file = File::parse(member.data(bytes).map_err(failed)?).map_err(failed)?;
            graph.add(&file).map_err(failed)?;
        }
        Ok(graph)
    }

    fn add(&mut self, file: &File<'_>) -> object::Result<()> {
        let first = self.references.len();
        let mut numbers = HashMap::new();
        for section in file.sections() {
            numbers.insert(section.index(), first + numbers.len());
            self.names.push(section.name()?.to_owned());
        }
        for symbol in file.symbols() {
            let Some(&section) = symbol.section_index().and_then(|index| numbers.get(&index))
            else {
                continue;
            };
            let name = symbol.name()?;
            if !name.is_empty() {
                self.names[section] = name.to_owned();
                if symbol.is_global() {
                    self.definitions.insert(name.to_owned(), section);
                }
            }
        }
        for section in file.sections() {
            let mut references = Vec::new();
            for (_, relocation) in section.relocations() {
                references.extend(reference(file, &numbers, relocation.target())?);
            }
            self.references.push(references);
        }
        Ok(())
    }

    /// The functions and data whose names begin with `prefix`, in order.
    pub fn symbols<'a>(&'a self, prefix: &'a str) -> BTreeSet<&'a str> {
        self.definitions
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with(prefix))
            .collect()
    }

    /// What can be reached from a function; `None` when there is no such function.
    pub fn reach(&self, function: &str) -> Option<Reach> {
        let start = *self.definitions.get(function)?;
        let mut reach = Reach::default();
        let mut from = HashMap::from([(start, start)]);
        let mut queue = VecDeque::from([start]);
        while let Some(section) = queue.pop_front() {
            if reach.panic.is_none() && is_panic(&self.names[section]) {
                reach.panic = Some(self.way(start, section, &from));
            }
            reach.names.insert(self.names[section].clone());
            for reference in &self.references[section] {
                let next = match reference {
                    Reference::Section(section) => *section,
                    Reference::Symbol(name) => match self.definitions.get(name) {
                        Some(section) => *section,
                        None => {
                            reach.missing.insert(name.clone());
                            continue;
                        }
                    },
                };
                from.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    section
                });
            }
        }
        Some(reach)
    }

    fn way(&self, start: usize, end: usize, from: &HashMap<usize, usize>) -> Vec<String> {
        let mut at = end;
        let mut way = vec![self.names[end].clone()];
        while at != start {
            at = from[&at];
            way.push(self.names[at].clone());
        }
        way.reverse();
        way
    }
}

fn reference(
    file: &File<'_>,
    numbers: &HashMap<SectionIndex, usize>,
    target: RelocationTarget,
) -> object::Result<Option<Reference>> {
    let section = |index| numbers.get(&index).copied().map(Reference::Section);
    Ok(match target {
        RelocationTarget::Section(index) => section(index),
        RelocationTarget::Symbol(index) => {
            let symbol = file.symbol_by_index(index)?;
            match symbol.section_index().and_then(section) {
                Some(section) => Some(section),
                None => Some(Reference::Symbol(symbol.name()?.to_owned())),
            }
        }
        _ => None,
    })
}

/// Everything that panics ends in this module of the core library, whatever the form in which its name is mangled.
fn is_panic(symbol: &str) -> bool {
    symbol.contains("4core9panicking")
}
