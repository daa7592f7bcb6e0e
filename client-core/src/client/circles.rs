//! Verbs about circles. A command touches only one circle's sockets: its own, or the new one's.

use crypto::circles::CIRCLES;
use wire::limits;

use super::bound::Client;
use super::home::check_servers;
use super::request::{NewCircle, Outcome};
use crate::error::{Error, ErrorWord, Result};
use crate::home::CircleRow;
use crate::view::CircleView;

/// What to do where no relay takes the circle definitions.
const LIST_REFUSED: &str = "until one takes it, the seed words bring back the circle personal alone; \
                            it is tried again by each sync. Ask the relay's operator, or add another: \
                            `sotto relay add URL`";

impl Client {
    /// All circles, in the order of their creation.
    pub fn circles(&self) -> Result<Vec<CircleView>> {
        let rows = self.unlocked.root.circles()?.into_iter();
        rows.filter(|row| !row.removed)
            .map(|row| self.circle_view(&row))
            .collect()
    }

    /// One circle by name; the bound one without.
    pub fn circle(&self, name: Option<&str>) -> Result<CircleView> {
        match name {
            Some(name) => self.circle_view(&self.row_by_name(name)?),
            None => self.circle_view(&self.row),
        }
    }

    /// Makes a circle the one that commands use without `--circle`.
    pub fn use_circle(&mut self, name: &str) -> Result<CircleView> {
        let row = self.row_by_name(name)?;
        self.unlocked.root.set_current(row.index)?;
        self.circle_view(&row)
    }

    /// Creates a circle with the next account key and publishes its lists to its own relays.
    ///
    /// Warns where a relay or file server is another circle's already: its operator can see both
    /// from one address. The definition reaches circle 0's relays with circle 0's next traffic,
    /// not now. Fails with `usage` without a relay, `conflict` where the name is taken.
    pub async fn create_circle(&mut self, circle: NewCircle) -> Result<Outcome<CircleView>> {
        check_name(&circle.name)?;
        check_servers(circle.relays.len(), circle.file_servers.len())?;
        if circle.relays.is_empty() {
            return Err(
                Error::new(ErrorWord::Usage, "a circle needs a relay of its own")
                    .hint("name one with --relay; nothing is copied from another circle"),
            );
        }
        let rows = self.unlocked.root.circles()?;
        if rows
            .iter()
            .any(|row| !row.removed && row.name == circle.name)
        {
            return Err(Error::new(
                ErrorWord::Conflict,
                "there is a circle of this name already",
            ));
        }
        let highest = rows.iter().map(|row| row.index).max();
        let index = highest.map_or(0, |index| index.saturating_add(1));
        if rows.len() >= CIRCLES {
            return Err(Error::new(
                ErrorWord::Conflict,
                format!("an account has at most {CIRCLES} circles, removed ones included"),
            ));
        }
        let seed = self.unlocked.root.seed()?.ok_or_else(|| {
            Error::new(
                ErrorWord::Conflict,
                "a new circle's key comes from the seed words, which this home does not have",
            )
        })?;
        let key = seed
            .account_key(index)
            .map_err(|error| Error::new(ErrorWord::Internal, error.to_string()))?;
        self.warn_of_shared(&rows, &circle);
        let row = CircleRow {
            index,
            name: circle.name.clone(),
            folder: String::new(),
            relays: circle.relays,
            file_servers: circle.file_servers,
            expire_s: circle.expire_s,
            made_at: self.now(),
            removed: false,
        };
        self.unlocked
            .root
            .add_circle(&row, Some(&key), &mut *self.rng)?;
        let mut made = Self::new(
            self.unlocked.again()?,
            self.protection,
            Some(&circle.name),
            self.settings.clone(),
        )?;
        let error = made.announce(&circle.invites, false).await?;
        let value = made.circle(None)?;
        made.close().await;
        Ok(Outcome { value, error })
    }

    /// Warns where relays of circle 0 refuse its definitions. The error where that matters: none has
    /// them, and there are circles that the words would not bring back.
    pub(super) fn warn_of_refused_definitions(&mut self) -> Result<Option<Error>> {
        let Some(refused) = self.engine.refused_circles(&self.store)? else {
            return Ok(None);
        };
        let circles = self.unlocked.root.circles()?;
        let has_others = circles.iter().any(|row| !row.removed && row.index != 0);
        if has_others
            && !refused.is_kept_somewhere
            && let Some((word, says)) = refused.says.first()
        {
            let detail = format!("the list of your circles is on none of your relays; {says}");
            return Ok(Some(Error::new(*word, detail).hint(LIST_REFUSED)));
        }
        let about = match refused.is_kept_somewhere {
            true => "a relay does not keep the list of your circles, so restore from another",
            false => {
                "the list of your circles is on no relay yet, so the seed words would bring back no other"
            }
        };
        for (_, says) in refused.says {
            self.warnings.push(format!("{about}; {says}"));
        }
        Ok(None)
    }

    fn warn_of_shared(&mut self, rows: &[CircleRow], circle: &NewCircle) {
        for row in rows.iter().filter(|row| !row.removed) {
            let relays = circle.relays.iter().filter(|url| row.relays.contains(url));
            let relays = relays.map(ToString::to_string);
            let servers = circle
                .file_servers
                .iter()
                .filter(|url| row.file_servers.contains(url))
                .map(ToString::to_string);
            for url in relays.chain(servers) {
                self.warnings.push(shared_warning(&url, &row.name));
            }
        }
    }

    fn row_by_name(&self, name: &str) -> Result<CircleRow> {
        let mut rows = self.unlocked.root.circles()?.into_iter();
        rows.find(|row| !row.removed && row.name == name)
            .ok_or_else(|| {
                Error::new(ErrorWord::NotFound, "there is no circle of this name")
                    .hint("`sotto circle list` names them")
            })
    }
}

pub(super) fn shared_warning(url: &str, circle: &str) -> String {
    format!(
        "{url} is used by the circle {circle} too: its operator sees both come from one address"
    )
}

fn check_name(name: &str) -> Result<()> {
    let is_fine = !name.trim().is_empty()
        && name.len() <= limits::NAME_BYTES
        && !name.chars().any(char::is_control);
    if is_fine {
        return Ok(());
    }
    Err(Error::new(
        ErrorWord::Usage,
        format!(
            "a circle's name has 1 to {} bytes and no control characters",
            limits::NAME_BYTES
        ),
    ))
}
