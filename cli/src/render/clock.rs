//! Times as the reader's clock shows them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The reader's clock and time zone.
#[derive(Debug, Clone)]
pub struct Clock {
    zone: TimeZone,
    fixed: Option<u64>,
}

impl Clock {
    /// This machine's.
    pub fn local() -> Self {
        Self {
            zone: TimeZone::system(),
            fixed: None,
        }
    }

    /// A clock that stands at `now` in UTC: for tests, and wherever a text must not change.
    pub fn standing(now: u64) -> Self {
        Self {
            zone: TimeZone::UTC,
            fixed: Some(now),
        }
    }

    /// Unix seconds.
    pub fn now(&self) -> u64 {
        self.fixed
            .unwrap_or_else(|| u64::try_from(Timestamp::now().as_second()).unwrap_or(0))
    }

    /// A moment of the past: the hour today, the weekday in the last six days, the date before.
    pub fn moment(&self, at: u64) -> String {
        let (Some(then), Some(now)) = (self.zoned(at), self.zoned(self.now())) else {
            return "?".to_owned();
        };
        let days = now
            .date()
            .duration_since(then.date())
            .as_hours()
            .checked_div(24)
            .unwrap_or(0);
        let form = match days {
            0 => "%H:%M",
            1..=6 => "%a %H:%M",
            _ if then.year() == now.year() => "%e %b %H:%M",
            _ => "%Y-%m-%d",
        };
        then.strftime(form).to_string().trim().to_owned()
    }

    /// How long until `at`, such as `in 5 min`; `now` once it is there.
    pub fn until(&self, at: u64) -> String {
        match at.checked_sub(self.now()) {
            None | Some(0) => "now".to_owned(),
            Some(seconds) => format!("in {}", self.span(seconds)),
        }
    }

    /// A span in its largest unit, rounded down: `45 s`, `5 min`, `6 h`, `3 days`.
    pub fn span(&self, seconds: u64) -> String {
        match seconds {
            0..60 => format!("{seconds} s"),
            60..3_600 => format!("{} min", seconds / 60),
            3_600..172_800 => format!("{} h", seconds / 3_600),
            _ => format!("{} days", seconds / 86_400),
        }
    }

    fn zoned(&self, at: u64) -> Option<jiff::Zoned> {
        let at = Timestamp::from_second(i64::try_from(at).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

/// A number of bytes for people: `812 B`, `34 kB`, `1.2 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut scale = 1_000_u64;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or("kB");
    for larger in units {
        if bytes / scale < 1_000 {
            break;
        }
        scale = scale.saturating_mul(1_000);
        unit = larger;
    }
    let whole = bytes / scale;
    let tenth = bytes % scale * 10 / scale;
    if whole < 10 {
        format!("{whole}.{tenth} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-23 12:00:00 UTC, a Monday.
    const NOON: u64 = 1_795_435_200;

    #[test]
    fn moments_are_as_short_as_they_can_be() {
        let clock = Clock::standing(NOON);
        let table = [
            (NOON - 60, "11:59"),
            (NOON - 86_400, "Sun 12:00"),
            (NOON - 6 * 86_400, "Tue 12:00"),
            (NOON - 7 * 86_400, "16 Nov 12:00"),
            (NOON - 400 * 86_400, "2025-10-19"),
            (u64::MAX, "?"),
        ];
        for (at, shown) in table {
            assert_eq!(clock.moment(at), shown);
        }
    }

    #[test]
    fn spans_and_sizes() {
        let clock = Clock::standing(NOON);
        assert_eq!(clock.until(NOON + 59), "in 59 s");
        assert_eq!(clock.until(NOON + 3_600), "in 1 h");
        assert_eq!(clock.until(NOON), "now");
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (34_500, "34 kB"),
            (1_250_000, "1.2 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }
}
