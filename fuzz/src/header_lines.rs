//! How an input spells the headers of a message of HTTP.

/// A header from each line: a name, a colon, a value. Lines that are none are left out, as the
/// library in front of the decoders does. Names and values are its types.
pub fn read<'l, N, V>(lines: impl Iterator<Item = &'l [u8]>) -> impl Iterator<Item = (N, V)>
where
    N: TryFrom<&'l [u8]>,
    V: TryFrom<&'l [u8]>,
{
    lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        Some((N::try_from(name).ok()?, V::try_from(value).ok()?))
    })
}
