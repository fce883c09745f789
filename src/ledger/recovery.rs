//! Opening: what a crash left behind is made whole before anything new is written.
//!
//! Only the last segment can end in the middle of something. Its torn tail is cut off. Should
//! valid records follow a gap in it - writes that were not synced may reach the disk in any order -
//! they are written again into a new segment, which goes on from before the gap.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::core::call::{Admission, Outcome, Settlement, Timings};
use crate::core::digest::{Digest, DigestSeed};
use crate::core::usage::{Provenance, Usage};

use super::audit::Anchor;
use super::body::KnownContents;
use super::index::follow::Follower;
use super::index::{Index, IndexError, Place, retain};
use super::lock::Holder;
use super::log::{Catalog, CatalogError, Cursor, Damage, LogReader, Segment, Step, catalog};
use super::query::View;
use super::record::{Event, FORMAT, Frames, HEADER_LEN, Header, kind};
use super::removal::Removal;
use super::storage::Storage;
use super::writer::Resume;

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the ledger directory {} cannot be used: {source}", .dir.display())]
    Unusable { dir: PathBuf, source: io::Error },
    #[error("the ledger in {} is in use{}", .dir.display(), DisplayHolder(*.holder))]
    Locked { dir: PathBuf, holder: Holder },
    #[error(
        "{} was written by a newer version of open-aiops (format {version}, this one knows up to \
         {FORMAT})", .path.display()
    )]
    Newer { path: PathBuf, version: u16 },
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "there is no ledger in {}: no server has run on it yet, or another directory is meant (--dir, \
         --config)", .dir.display()
    )]
    Missing { dir: PathBuf },
    #[error("the index of the ledger cannot be made: {0}")]
    Index(#[source] IndexError),
}

struct DisplayHolder(Holder);

impl fmt::Display for DisplayHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.pid {
            Some(pid) => write!(f, " by process {pid}")?,
            None => f.write_str(" by another process")?,
        }
        match self.0.admin {
            Some(admin) => write!(f, ", whose admin address is {admin}"),
            None => Ok(()),
        }
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The ledger had been closed properly: there was nothing to do.
    pub clean: bool,
    /// The process before said that it stopped, or there was none.
    pub stopped: bool,
    /// Bytes of a record that was never finished, cut off.
    pub cut_bytes: u64,
    /// Records the index had not covered yet.
    pub caught_up_records: u64,
    /// Calls found open, now settled as recovered.
    pub recovered_calls: u64,
    pub index_rebuilt: bool,
    /// Parts of the log that cannot be read, among those that were looked at.
    pub damages: Vec<Damage>,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clean {
            return f.write_str("The ledger was closed properly.");
        }
        write!(
            f,
            "The ledger was not closed properly: {} bytes of an unfinished record cut off, {} \
             records {}, {} open calls settled at their estimate, {} damaged places.",
            self.cut_bytes,
            self.caught_up_records,
            if self.index_rebuilt {
                "indexed anew"
            } else {
                "added to the index"
            },
            self.recovered_calls,
            self.damages.len()
        )
    }
}

/// A log that can be appended to, and its index, which covers it.
pub(crate) struct Opened {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) view: View,
    pub(crate) indexed: Indexed,
    pub(crate) follower: Follower,
    pub(crate) resume: Resume,
    pub(crate) recovery: Recovery,
    pub(crate) to_tell: ToTell,
}

/// What opening found that has to be on record.
#[derive(Default)]
pub(crate) struct ToTell {
    /// The end of the log was not where it had been.
    pub(crate) missed: Option<Event>,
    /// The front of the log is gone, and the version that let it go did not say so.
    pub(crate) front: Option<Removal>,
}

/// What going on needs to know of what there was.
#[derive(Default)]
pub(crate) struct Indexed {
    /// Stored messages, the segments they lie in, whether redacted.
    pub(crate) contents: Vec<(Digest, u64, bool)>,
    pub(crate) open_calls: Vec<Admission>,
    stopped: bool,
}

impl Indexed {
    fn read(view: &View) -> Result<Self, IndexError> {
        let open_calls = view.open_calls()?.into_iter();
        Ok(Self {
            contents: view.contents(KnownContents::LOADED)?,
            open_calls: open_calls.filter_map(|(_, admission)| admission).collect(),
            stopped: view.was_stopped()?,
        })
    }
}

pub(crate) fn open_catalog(storage: &dyn Storage) -> Result<Catalog, OpenError> {
    catalog(storage).map_err(|error| match error {
        CatalogError::Io(number, source) => OpenError::Unreadable {
            path: storage.path(number),
            source,
        },
        CatalogError::Newer(number, version) => OpenError::Newer {
            path: storage.path(number),
            version,
        },
    })
}

/// The index at `place`, or a new one where that cannot be opened or is damaged. It is `doubtful`
/// if whoever wrote it did not close it: damage can have been the reason.
pub(crate) fn open_index(place: &Place, doubtful: bool) -> Result<Arc<Index>, OpenError> {
    let index = Index::open(place.clone(), doubtful).or_else(|_| Index::create(place.clone()));
    index.map(Arc::new).map_err(OpenError::Index)
}

/// Brings `follower` to the end of the log and does `then`, from the start of the log if the index
/// turns out to be damaged; says whether it was.
pub(crate) fn catch_up<T>(
    follower: &mut Follower,
    then: impl Fn(&Index) -> Result<T, IndexError>,
) -> Result<(T, bool), OpenError> {
    let end = follower
        .catalog
        .last()
        .map(|last| last.end())
        .unwrap_or_default();
    let act = |follower: &mut Follower| {
        follower.catch_up(end, true)?;
        then(&follower.index)
    };
    if let Ok(done) = act(follower) {
        return Ok((done, false));
    }
    follower.start_anew().map_err(OpenError::Index)?;
    let done = act(follower).map_err(OpenError::Index)?;
    Ok((done, true))
}

/// Opens log and index for writing.
pub(crate) fn open(
    storage: &Arc<dyn Storage>,
    (place, doubtful): (&Place, bool),
    clock: &Clock,
) -> Result<Opened, OpenError> {
    let catalog = Arc::new(open_catalog(&**storage)?);
    let index = open_index(place, doubtful)?;
    let (mut follower, anew) = Follower::new(
        Arc::clone(&index),
        Arc::clone(storage),
        Arc::clone(&catalog),
    )
    .map_err(OpenError::Index)?;
    let unusable = |source| OpenError::Unusable {
        dir: storage.path(0),
        source,
    };
    let tail = mend(&**storage, &catalog, follower.cursor, clock).map_err(unusable)?;
    let stood_at_end = follower.cursor.position == tail.resume.end.position;
    let view = View {
        index,
        storage: Arc::clone(storage),
    };
    let (indexed, damaged) = catch_up(&mut follower, |index| {
        index.compact_if_sparse()?;
        Indexed::read(&view)
    })?;
    let rebuilt = anew || damaged;
    let empty = catalog.last().is_none();
    let to_tell = ToTell {
        missed: view.index.missed().map(|missed| {
            let (missed, end) = (Anchor::of(missed), Anchor::of(tail.resume.end));
            let details = format!(
                "the index saw the log up to {missed}, which the log did not hold when a server \
                 started: it went on from {end}"
            );
            Event::own(clock.now(), Event::LOG_SHORTER, Some(details))
        }),
        front: if tail.is_upgrade {
            retain::unrecorded_front(&view.index, (&**storage, &catalog.all()), clock.now())
                .map_err(OpenError::Index)?
        } else {
            None
        },
    };
    let mut damages = tail.damages;
    for damage in std::mem::take(&mut follower.damages) {
        if !damages.contains(&damage) {
            damages.push(damage);
        }
    }
    let recovery = Recovery {
        clean: empty || (stood_at_end && !rebuilt && tail.cut_bytes == 0),
        stopped: empty || indexed.stopped,
        cut_bytes: tail.cut_bytes,
        caught_up_records: follower.records,
        recovered_calls: 0,
        index_rebuilt: rebuilt && !empty,
        damages,
    };
    Ok(Opened {
        catalog,
        view,
        indexed,
        follower,
        resume: tail.resume,
        recovery,
        to_tell,
    })
}

/// The end of the log, made fit to be continued.
struct Tail {
    resume: Resume,
    cut_bytes: u64,
    damages: Vec<Damage>,
    /// An older version was the last to begin a segment.
    is_upgrade: bool,
}

/// What is in the last segment from some point on.
#[derive(Default)]
struct Survey {
    end: Cursor,
    /// Before the first gap.
    sound: Option<Cursor>,
    damages: Vec<Damage>,
    /// What follows the first gap.
    salvaged: Vec<(u8, Vec<u8>)>,
    records: u64,
}

fn survey(storage: &dyn Storage, segment: Segment, from: Option<Cursor>) -> io::Result<Survey> {
    let segments = [segment];
    let mut reader = match from {
        Some(from) => LogReader::new(storage, &segments, from, segment.end()),
        None => LogReader::from_start(storage, &segments),
    };
    let mut survey = Survey::default();
    loop {
        let before = reader.cursor();
        match reader.next()? {
            None => break,
            Some(Step::Entered(_)) => {}
            Some(Step::Damage(damage)) => {
                survey.sound.get_or_insert(before);
                survey.damages.push(damage);
            }
            Some(Step::Record { kind, payload, .. }) => {
                survey.records += 1;
                if survey.sound.is_some() {
                    survey.salvaged.push((kind, payload.to_vec()));
                }
            }
        }
    }
    survey.end = reader.cursor();
    Ok(survey)
}

/// Looks through the last segment, from where the index vouches for it.
fn mend(
    storage: &dyn Storage,
    catalog: &Catalog,
    covered: Cursor,
    clock: &Clock,
) -> io::Result<Tail> {
    let seed = catalog
        .all()
        .iter()
        .rev()
        .find_map(|segment| segment.header);
    let seed = seed.map_or_else(new_seed, |header| header.seed);
    let mut cut_bytes = 0;
    loop {
        let Some(last) = catalog.last() else {
            let resume = Resume {
                seed,
                segment: None,
                next_number: 1,
                end: Cursor::default(),
            };
            return Ok(Tail {
                resume,
                cut_bytes,
                damages: Vec::new(),
                is_upgrade: false,
            });
        };
        let from = Some(covered).filter(|covered| {
            covered.position.segment == last.number && covered.position >= last.start()
        });
        let survey = survey(storage, last, from)?;
        if last.header.is_none() && survey.records == 0 {
            // Its creation was never finished.
            storage.remove(last.number)?;
            storage.sync_dir()?;
            catalog.remove(last.number);
            cut_bytes += last.len;
            continue;
        }
        let mut tail = mend_last(storage, catalog, last, survey, (seed, clock))?;
        tail.cut_bytes += cut_bytes;
        return Ok(tail);
    }
}

fn mend_last(
    storage: &dyn Storage,
    catalog: &Catalog,
    last: Segment,
    survey: Survey,
    (seed, clock): (DigestSeed, &Clock),
) -> io::Result<Tail> {
    let Survey {
        end,
        sound,
        damages,
        salvaged,
        ..
    } = survey;
    let next_number = last.number + 1;
    let mut tail = Tail {
        resume: Resume {
            seed,
            segment: None,
            next_number,
            end,
        },
        cut_bytes: last.len.saturating_sub(end.position.offset),
        damages,
        is_upgrade: format(storage, last.number)? < FORMAT,
    };
    if let (Some(sound), Some(_)) = (sound, last.header) {
        let header = Header {
            number: next_number,
            created_at: clock.now(),
            seed,
            continues: sound.chain,
        };
        (tail.resume.segment, tail.resume.end) = salvage(storage, catalog, header, &salvaged)?;
        tail.cut_bytes = 0;
    } else if last.header.is_some() {
        if tail.cut_bytes > 0 {
            storage.open(last.number)?.truncate(end.position.offset)?;
        }
        let segment = Segment {
            len: end.position.offset,
            ..last
        };
        catalog.put(segment);
        // What this version writes is in segments that an older one refuses.
        tail.resume.segment = Some(segment).filter(|_| !tail.is_upgrade);
    }
    Ok(tail)
}

/// The format of a segment; this one's where its head cannot be read.
fn format(storage: &dyn Storage, number: u64) -> io::Result<u16> {
    let mut head = [0; HEADER_LEN];
    let filled = storage.open(number)?.read_at(0, &mut head)?;
    Ok(head
        .get(..filled)
        .and_then(Header::format)
        .unwrap_or(FORMAT))
}

/// Writes records into a new segment.
fn salvage(
    storage: &dyn Storage,
    catalog: &Catalog,
    header: Header,
    records: &[(u8, Vec<u8>)],
) -> io::Result<(Option<Segment>, Cursor)> {
    let mut frames = Frames {
        chain: header.continues,
        ..Frames::default()
    };
    frames.push_begun(header.created_at, header.seed);
    for (kind, payload) in records.iter().filter(|(kind, _)| *kind != kind::BEGUN) {
        frames.push_encoded(*kind, payload);
    }
    let mut bytes = header.to_bytes();
    bytes.extend_from_slice(&frames.bytes);
    let mut file = storage.create(header.number)?;
    file.append(&bytes)?;
    file.sync()?;
    storage.sync_dir()?;
    let segment = Segment {
        number: header.number,
        len: bytes.len() as u64,
        header: Some(header),
    };
    catalog.put(segment);
    Ok((
        Some(segment),
        Cursor {
            position: segment.end(),
            chain: frames.chain,
        },
    ))
}

/// A secret for a new directory: each of these ids holds 74 random bits.
fn new_seed() -> DigestSeed {
    let ids = [
        uuid::Uuid::now_v7().into_bytes(),
        uuid::Uuid::now_v7().into_bytes(),
    ];
    let mut seed = [0; 8];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(ids.as_flattened())
        .finalize_xof()
        .fill(&mut seed);
    DigestSeed(u64::from_le_bytes(seed))
}

/// How a call ends of which nothing but its admission is known.
pub(crate) fn unsettled(admission: &Admission, outcome: Outcome) -> Settlement {
    let who = &admission.attribution;
    let mut settlement = Settlement {
        id: admission.id,
        started_at: admission.started_at,
        agent: who.agent.clone(),
        caller: who.caller.clone(),
        run: who.run.clone(),
        parent_run: who.parent_run.clone(),
        upstream: admission.upstream.clone(),
        operation: admission.operation,
        model: admission.request_model.clone(),
        outcome,
        status: None,
        usage: Usage {
            input_tokens: admission.estimated_input_tokens,
            ..Usage::default()
        },
        provenance: Provenance::Estimated,
        cost: None,
        cost_source: None,
        response_model: None,
        response_id: None,
        service_tier: None,
        finish_reasons: Vec::new(),
        timings: Timings::default(),
        request_bytes: admission.request.as_ref().map_or(0, |request| request.len),
        response_bytes: 0,
        error: None,
        response: None,
        chunks: Vec::new(),
        charges: Vec::new(),
        settled_at: None,
        is_pending: false,
        headers: None,
        instance: admission.instance.clone(),
    };
    settlement.settle_at(admission.hold.clone());
    settlement
}
