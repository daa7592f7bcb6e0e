//! Dates as HTTP writes them (RFC 9110 section 5.6.7), for the `Sunset` header (RFC 8594).

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// 31 December 9999, the last day with a year of four digits.
const LAST_DAY: u64 = 2_932_896;

/// Unix seconds as `Sun, 06 Nov 1994 08:49:37 GMT`; times after the year 9999 as its last day.
pub fn format(seconds: u64) -> String {
    let days = (seconds / 86_400).min(LAST_DAY);
    let rest = seconds % 86_400;
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], index: u64| {
        let index = usize::try_from(index).unwrap_or_default();
        names.get(index).copied().unwrap_or_default()
    };
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&DAYS, days % 7),
        name(&MONTHS, month - 1),
        rest / 3_600,
        rest / 60 % 60,
        rest % 60,
    )
}

/// Reads that form back (the obsolete ones are not sent by anything we talk to).
pub fn parse(text: &str) -> Option<u64> {
    let mut parts = text.trim().split(' ');
    let _weekday = parts.next()?.strip_suffix(',')?;
    let day: u64 = parts.next()?.parse().ok()?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: u64 = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.splitn(3, ':').map(|part| part.parse().ok());
    let (hour, minute, second): (u64, u64, u64) = (clock.next()??, clock.next()??, clock.next()??);
    let is_gmt = parts.next()? == "GMT" && parts.next().is_none();
    let month = u64::try_from(month).ok()? + 1;
    let fits = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_gmt || !fits {
        return None;
    }
    // The day of the year's first of the month, found by asking the other direction.
    let days = days_from_civil(year, month, day);
    // Unix time has no leap seconds: one is as long as the second before it.
    let time = hour * 3_600 + minute * 60 + second.min(59);
    (civil(days) == (year, month, day)).then(|| days * 86_400 + time)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, years counted from March so that
/// the leap day is the last of its year.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719_468 days lie between 0000-03-01 and 1970-01-01.
    (365 * year + leap_days + (153 * month + 2) / 5 + day).saturating_sub(1 + 719_468)
}

/// The reverse: year, month (1 to 12), day (1 to 31).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era_day = days % 146_097;
    let era_year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let month = (5 * year_day + 2) / 153;
    let day = year_day - (153 * month + 2) / 5 + 1;
    let year = era_year + days / 146_097 * 400;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_standards() {
        let table = [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_546_300_799, "Mon, 31 Dec 2018 23:59:59 GMT"),
            (1_582_934_400, "Sat, 29 Feb 2020 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, text) in table {
            assert_eq!(format(seconds), text);
            assert_eq!(parse(text), Some(seconds));
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..150_000_u64 {
            let seconds = day * 86_400 + day % 86_400;
            assert_eq!(parse(&format(seconds)), Some(seconds));
        }
    }

    #[test]
    fn a_leap_second_leaves_its_day_to_no_other() {
        let last = parse("Fri, 31 Dec 9999 23:59:60 GMT").unwrap();
        assert_eq!(format(last), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(parse(&format(last)), Some(last));
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "Sun, 30 Feb 2020 00:00:00 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            // As many days as a number holds, and none.
            "x, 18446744073709551615 Nov 1994 08:49:37 GMT",
            "x, 0 Nov 1994 08:49:37 GMT",
            "x, 99999999999999999999 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(format(u64::MAX).contains("9999"));
    }
}
