//! Just enough of JPEG and EXIF to put a place into a picture and to look for it afterwards.
//!
//! The client removes metadata by code of its own; this one checks it and shares nothing with it.

/// A small picture of the project's own making: dusk over hills, baseline JPEG, no metadata.
pub const PHOTO: &[u8] = include_bytes!("photo.jpg");

/// The camera that the picture claims to come from.
pub const CAMERA: &str = "Sotto Demo Camera";

/// Latitude and longitude in whole seconds of arc, north and east.
pub const PLACE: (u32, u32) = (189_060, 48_160);

/// `jpeg` with camera and place in an EXIF segment, behind the start and the JFIF segment as
/// cameras write it.
pub fn with_place(jpeg: &[u8], place: (u32, u32)) -> Option<Vec<u8>> {
    let exif = exif(place);
    let length = u16::try_from(exif.len().checked_add(2)?).ok()?;
    let jfif = segments(jpeg)?.into_iter().find(|part| part.marker == 0xe0);
    let at = jfif.map_or(2, |part| part.end);
    let (head, tail) = jpeg.split_at_checked(at)?;
    let segment = [&[0xff, 0xe1], length.to_be_bytes().as_slice(), &exif].concat();
    Some([head, &segment, tail].concat())
}

/// Whether an EXIF segment points to a GPS directory.
pub fn has_place(jpeg: &[u8]) -> bool {
    segments(jpeg).unwrap_or_default().iter().any(|part| {
        let payload = jpeg.get(part.start..part.end).unwrap_or_default();
        part.marker == 0xe1
            && payload.starts_with(b"Exif\0\0")
            // The GPS directory's pointer, tag 0x8825, in either byte order.
            && payload.windows(2).any(|pair| pair == [0x25, 0x88] || pair == [0x88, 0x25])
    })
}

/// Everything that makes the pixels: all segments but APPn and comments, and the scan.
pub fn pixels(jpeg: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut end = 2;
    for part in segments(jpeg)? {
        if !matches!(part.marker, 0xe0..=0xef | 0xfe) {
            out.push(part.marker);
            out.extend_from_slice(jpeg.get(part.start..part.end)?);
        }
        end = part.end;
    }
    out.extend_from_slice(jpeg.get(end..)?);
    Some(out)
}

struct Segment {
    marker: u8,
    /// Where its payload begins, behind marker and length.
    start: usize,
    end: usize,
}

/// The segments up to and with the start of the scan (SOS).
fn segments(jpeg: &[u8]) -> Option<Vec<Segment>> {
    let mut parts = Vec::new();
    let mut at = 2_usize;
    jpeg.starts_with(&[0xff, 0xd8]).then_some(())?;
    loop {
        let [0xff, marker, high, low] = jpeg.get(at..at.checked_add(4)?)? else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let end = at.checked_add(2)?.checked_add(length)?;
        parts.push(Segment {
            marker: *marker,
            start: at.checked_add(4)?,
            end,
        });
        if *marker == 0xda {
            return Some(parts);
        }
        at = end;
    }
}

/// A little-endian TIFF with two directories: the picture's (camera, pointer) and GPS.
fn exif((latitude, longitude): (u32, u32)) -> Vec<u8> {
    const ASCII: u16 = 2;
    const LONG: u16 = 4;
    const RATIONAL: u16 = 5;
    let camera = [CAMERA.as_bytes(), b"\0"].concat();
    let camera_length = u32::try_from(camera.len()).unwrap_or(0);
    // Header 8, first directory 2 + 2 * 12 + 4, then the camera's name, then GPS.
    let camera_at = 8 + 2 + 2 * 12 + 4;
    let gps_at = camera_at + camera_length;
    let rationals_at = gps_at + 2 + 4 * 12 + 4;
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        let mut bytes = Vec::with_capacity(12);
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value);
        bytes
    };
    let degrees = |seconds: u32| {
        [seconds / 3_600, 1, seconds / 60 % 60, 1, seconds % 60, 1]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<u8>>()
    };
    let mut out = b"Exif\0\0II\x2a\0\x08\0\0\0".to_vec();
    out.extend(2_u16.to_le_bytes());
    out.extend(entry(0x0110, ASCII, camera_length, camera_at.to_le_bytes()));
    out.extend(entry(0x8825, LONG, 1, gps_at.to_le_bytes()));
    out.extend(0_u32.to_le_bytes());
    out.extend(camera);
    out.extend(4_u16.to_le_bytes());
    out.extend(entry(1, ASCII, 2, *b"N\0\0\0"));
    out.extend(entry(2, RATIONAL, 3, rationals_at.to_le_bytes()));
    out.extend(entry(3, ASCII, 2, *b"E\0\0\0"));
    out.extend(entry(4, RATIONAL, 3, (rationals_at + 24).to_le_bytes()));
    out.extend(0_u32.to_le_bytes());
    out.extend(degrees(latitude));
    out.extend(degrees(longitude));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_in_and_leaves_the_pixels_alone() {
        assert!(!has_place(PHOTO));
        let photo = with_place(PHOTO, PLACE).unwrap();
        assert!(has_place(&photo));
        assert_eq!(pixels(&photo), pixels(PHOTO));
        assert!(pixels(&photo).unwrap().len() > 6_000);
        let mut other = photo.clone();
        *other.last_mut().unwrap() ^= 1;
        assert_ne!(pixels(&other), pixels(PHOTO));
    }

    #[test]
    fn what_is_no_jpeg_has_no_place() {
        for bytes in [
            b"".as_slice(),
            b"\xff\xd8",
            b"\xff\xd8\xff\xe1\xff\xff",
            b"GIF89a",
        ] {
            assert!(!has_place(bytes));
            assert!(pixels(bytes).is_none());
        }
    }
}
