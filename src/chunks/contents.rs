//! Contents in the store: what is where, and what others call for them.
//!
//! They share segments, syncs and failures with logs. A content is dropped by forgetting
//! where it is, without a record: one that comes back when the store is opened, because its
//! segment is not rewritten yet, is dropped again by whoever knows that nobody wants it.
//!
//! Who decides that looks at a list first and at other things then. What was put, or asked
//! for, in between is not dropped: each content has a number that such an event changes.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use horai_core::model::file::Digest;
use horai_proto::logs as pb;

use super::content::{digest_in, unpack};
use super::frame::{self, Record};
use super::index::{Index, Place, RECORD_WEIGHT};
use super::store::{Error, Job, Shared, Store};
use super::writer::Writer;

/// One content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    place: Place,
    weight: u64,
    /// It is on the disk for sure.
    held: bool,
    /// Changes whenever somebody relies on it anew.
    touched: u64,
}

/// What holds a content with so many bytes of it weighs.
fn weight(content: &pb::Content) -> u64 {
    content.data.len() as u64 + RECORD_WEIGHT
}

impl Index {
    fn touch(&mut self, digest: Digest) -> bool {
        self.touches += 1;
        let (kept, now) = (self.contents.get_mut(&digest), self.touches);
        kept.map(|kept| kept.touched = now).is_some()
    }

    /// Applies a record that was found when the store was opened: it is synced then.
    pub(super) fn learn_content(&mut self, content: &pb::Content, place: Place) {
        if let Ok(digest) = digest_in(&content.digest) {
            self.add_content(digest, weight(content), place, true);
        }
    }

    /// A record with a content was written.
    fn add_content(&mut self, digest: Digest, weight: u64, place: Place, held: bool) {
        self.segment(place.segment).weight += weight;
        if self.touch(digest) {
            return;
        }
        let touched = self.touches;
        self.contents.insert(digest, Kept { place, weight, held, touched });
        self.segment(place.segment).live += weight;
    }

    fn remove_content(&mut self, digest: Digest, is_meant: impl FnOnce(&Kept) -> bool) {
        if let Some(kept) = self.contents.get(&digest).copied().filter(is_meant) {
            self.contents.remove(&digest);
            self.free(vec![(kept.place.segment, kept.weight)]);
        }
    }

    /// True if what is known of a content is in this record.
    fn uses_content(&self, digest: Digest, place: Place) -> bool {
        self.contents.get(&digest).is_some_and(|kept| kept.place == place)
    }

    /// A record was copied.
    fn move_content(&mut self, digest: Digest, weight: u64, new: Place) {
        self.segment(new.segment).weight += weight;
        let Some(kept) = self.contents.get_mut(&digest) else { return };
        let old = std::mem::replace(&mut kept.place, new);
        self.segment(new.segment).live += weight;
        self.free(vec![(old.segment, weight)]);
    }
}

impl Shared {
    /// What is known of a content is on the disk now.
    pub(super) fn content_synced(&self, digest: Digest) {
        if let Some(kept) = self.index().contents.get_mut(&digest) {
            kept.held = true;
        }
    }

    /// What cannot be read is lost from here on.
    fn content(&self, digest: Digest) -> Option<(pb::Content, Bytes)> {
        loop {
            let place = self.index().contents.get(&digest).map(|kept| kept.place)?;
            let content = self.content_at(digest, place);
            // It may have been copied, and its segment removed, meanwhile: then again.
            if content.is_some() || self.index().uses_content(digest, place) {
                if content.is_none() {
                    tracing::error!(%digest, "a content is damaged, and not held any more");
                    self.stats().damaged += 1;
                    self.index().remove_content(digest, |kept| kept.place == place);
                }
                return content;
            }
        }
    }

    fn content_at(&self, digest: Digest, place: Place) -> Option<(pb::Content, Bytes)> {
        let file = self.files().get(&place.segment).map(Arc::clone)?;
        let mut bytes = vec![0; usize::try_from(place.len).ok()?];
        file.read_exact_at(&mut bytes, u64::from(place.at)).ok()?;
        let (Record::Content(content), _) = frame::read(&bytes)? else { return None };
        let (found, bytes) = unpack(&content).ok()?;
        (found == digest).then_some((content, bytes))
    }
}

impl Writer {
    /// Writes a content that is not known yet.
    pub(super) fn put_content(&mut self, content: pb::Content) -> Result<(), Error> {
        let (digest, _) = unpack(&content)?;
        // What is known may be damaged: whoever puts it has it whole.
        if self.shared.content(digest).is_some() && self.shared.index().touch(digest) {
            return Ok(());
        }
        let weight = weight(&content);
        let place = self.append(&Record::Content(content))?;
        self.shared.index().add_content(digest, weight, place, false);
        self.fresh_contents.push(digest);
        Ok(())
    }

    /// Copies a content to the end if this record is what is known of it.
    pub(super) fn copy_content(&mut self, content: pb::Content, old: Place) -> io::Result<()> {
        let Ok(digest) = digest_in(&content.digest) else { return Ok(()) };
        if self.shared.index().uses_content(digest, old) {
            let weight = weight(&content);
            let new = self.try_append(&Record::Content(content))?;
            self.shared.index().move_content(digest, weight, new);
        }
        Ok(())
    }
}

impl Store {
    /// Stores contents; they are on the disk when this returns. What is known already costs
    /// nothing, and is relied on anew.
    ///
    /// # Errors
    /// [`Error`]; of several contents those before the bad one may be stored.
    pub async fn put_contents(&self, contents: Vec<pb::Content>) -> Result<(), Error> {
        let room = self.room(contents.iter().map(|content| content.data.len())).await?;
        self.ask(|done| Job::PutContents { contents, done, _room: room }).await
    }

    /// The contents that are on the disk, each with the number that [`Self::drop_contents`]
    /// takes.
    #[must_use]
    pub fn contents(&self) -> Vec<(Digest, u64)> {
        let index = self.shared().index();
        let held = index.contents.iter().filter(|(_, kept)| kept.held);
        held.map(|(digest, kept)| (*digest, kept.touched)).collect()
    }

    /// Which of these are on the disk. They are relied on from now on.
    #[must_use]
    pub fn touch_contents(&self, digests: &[Digest]) -> Vec<Digest> {
        let index = &mut *self.shared().index();
        let is_held = |index: &mut Index, digest: Digest| {
            index.touch(digest) && index.contents.get(&digest).is_some_and(|kept| kept.held)
        };
        digests.iter().copied().filter(|digest| is_held(index, *digest)).collect()
    }

    /// A content, as it is sent and as it is. Blocks.
    #[must_use]
    pub fn content(&self, digest: Digest) -> Option<(pb::Content, Bytes)> {
        self.shared().content(digest)
    }

    /// Forgets contents that nobody has relied on since they were listed.
    pub fn drop_contents(&self, listed: &[(Digest, u64)]) {
        let index = &mut *self.shared().index();
        for (digest, touched) in listed {
            index.remove_content(*digest, |kept| kept.touched == *touched);
        }
    }
}
